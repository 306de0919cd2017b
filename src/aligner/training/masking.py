"""Source masking: right tokens of an answer are hidden, so that copying alone does not do (MaskCorrect, 2211.13252).

Only tokens that the correction keeps are hidden, and what is learnt stays what it was: the model has to find them out
from the question and from what else is said. Good answers are masked like flawed ones. Were they not, a hidden token
would tell that something is wrong in the answer, and none that all is well; what is measured are whole answers, always.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from rapidfuzz.distance import Indel

from aligner.templates import PromptEncoder
from aligner.training.encode import EncodedRow
from aligner.training.random_copies import plain_vocabulary


def mask_source(rows: Sequence[EncodedRow], hidden: Sequence[int], *, share: float, seed: int) -> list[EncodedRow]:
    """The rows, in the answers of which that share of the kept tokens is replaced by one of the `hidden` ids.

    Each row is drawn for by its place: a row that comes once in every epoch is masked anew each time, and the same
    arguments give the same rows. Nothing but ids of the answer changes.
    """
    if share == 0:
        return list(rows)
    kept = {row: kept_places(row) for row in dict.fromkeys(rows)}
    return [_masked(row, kept[row], hidden, share, Random(f"{seed} {place}")) for place, row in enumerate(rows)]


def hiding_ids(encoder: PromptEncoder, tokenizer: Any) -> list[int]:
    """What stands for a token that is hidden: the tokenizer's own token for it, or else any token of a text.

    That is the one for masks, for the unknown, or for padding: none of them means anything inside a prompt, unless it
    also ends texts or stands in the template, as some tokenizers have it. Random tokens are the makeshift: unlike the
    others they look like mistakes, and a model that mends them may come to mend what is only rare.
    """
    meant = {*encoder.assemble([], []), tokenizer.eos_token_id, tokenizer.bos_token_id}
    own = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    free = [i for i in own if i is not None and i not in meant]
    return free[:1] or plain_vocabulary(encoder, len(tokenizer))


def kept_places(row: EncodedRow) -> list[int]:
    """Where the ids stand that the correction takes over from the answer, as a longest common subsequence."""
    answer = row.ids[row.answer.start : row.answer.stop]
    kept = Indel.editops(answer, row.ids[row.prompt_length : -1]).as_matching_blocks()
    return [row.answer.start + block.a + i for block in kept for i in range(block.size)]


def _masked(row: EncodedRow, kept: Sequence[int], hidden: Sequence[int], share: float, random: Random) -> EncodedRow:
    ids = list(row.ids)
    for place in kept:
        if random.random() < share:
            ids[place] = random.choice(hidden)
    return replace(row, ids=tuple(ids))
