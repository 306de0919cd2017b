"""What is asked: prompts and held-out questions, kept apart, and dealt to the rounds."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from aligner.config.kinds import OnBadRow
from aligner.data.fields import as_asked, question_of
from aligner.data.languages import normalised
from aligner.data.languages import words as words_of
from aligner.data.overlapping import Index
from aligner.errors import InputFileError, MisuseError
from aligner.files import bad_rows_named, read
from aligner.records import Question, as_messages
from aligner.world.families import FAMILIES
from aligner.world.questions import ask
from aligner.world.words import Split

WORLD = "world:"
"""what stands before the number of the closed world's questions"""
_PATIENCE = 10_000
"""draws in a row without a new question, after which the closed world is taken to have no more"""
_MOST_WORDS = 64


class Apart(NamedTuple):
    """Prompts that may be learnt from, and how many may not, by the reason."""

    kept: list[Question]
    left_out: Mapping[str, int]


def questions_of(source: str, split: Split, *, seed: int, on_bad_row: OnBadRow, out: Path) -> list[Question]:
    """Different questions: those of a file, or so many of the closed world's split with `world:COUNT`.

    A file's rows hold them in `question`, `messages` or `prompt`; rows that are skipped go to `<out>.skipped.jsonl`.
    Raises MisuseError, and InputFileError for a row that cannot be used, and for a file without questions.
    """
    if source.startswith(WORLD):
        return _of_world(source, split, seed)
    bad_rows = bad_rows_named(on_bad_row, out)
    found = list(dict.fromkeys(row.value for row in read(source, _asked_in, bad_rows=bad_rows)))
    bad_rows.finish()
    if not found:
        raise InputFileError(f'{source}: no row that can be used; each needs a "question", "messages" or "prompt"')
    return found


def apart(prompts: Iterable[Question], held_out: Iterable[Question], *, words: int) -> Apart:
    """The prompts without those that ask a held-out question, or share so many words in a row with one.

    Letter case, punctuation and white space make no difference. With 0 words only whole questions are looked for, and
    with any number of words always; a conversation asks a question as soon as some of its turns do. Raises MisuseError
    for more than 64 words.
    """
    if not 0 <= words <= _MOST_WORDS:
        raise MisuseError(f"--max-overlap is a number of words from 1 to {_MOST_WORDS}, or 0 for no limit, not {words}")
    held = list(held_out)
    shares = _sharing(held, words)
    whole = {tuple(_turns(question)) for question in held}
    kept, left_out = list[Question](), Counter[str]()
    for prompt in prompts:
        if any(run in whole for run in _runs(_turns(prompt))):
            left_out["same question"] += 1
        elif shares(prompt):
            left_out["overlap"] += 1
        else:
            kept.append(prompt)
    return Apart(kept, left_out)


def drawn(pool: Sequence[Question], *, per_round: int, seed: int, number: int) -> list[Question]:
    """The prompts of a round, which count from 1: the next ones of a shuffled pool, and none twice in one round.

    Once all were asked, the pool is shuffled anew. 0 a round asks all of them, in another order each time.
    """
    size = min(per_round or len(pool), len(pool))
    left, now = list[int](), list[int]()
    for round_ in range(1, number + 1):
        now, left = left[:size], left[size:]
        if len(now) < size:
            again, asked = list(range(len(pool))), set(now)
            Random(f"prompts {seed} {round_}").shuffle(again)
            now += [i for i in again if i not in asked][: size - len(now)]
            anew = set(now) - asked
            left = [i for i in again if i not in anew]
    return [pool[i] for i in now]


def _of_world(source: str, split: Split, seed: int) -> list[Question]:
    """Different questions at random, of all families."""
    count = source.removeprefix(WORLD)
    if not count.isdecimal() or not int(count):
        raise MisuseError(f'"{source}": say how many questions of the closed world are asked, as in {WORLD}2000')
    random = Random(f"bootstrap {split} {seed}")
    found, in_vain = dict[Question, None](), 0
    while len(found) < int(count):
        before = len(found)
        found[ask(random, random.choice(FAMILIES), split).text] = None
        in_vain = 0 if len(found) > before else in_vain + 1
        if in_vain == _PATIENCE:
            raise MisuseError(f'"{source}": the closed world has but some {before:,} such questions; ask for fewer')
    return list(found)


def _asked_in(row: Mapping[str, object]) -> Question:
    """The question of a row, which others call a prompt."""
    is_prompt = row.get("question") is None and row.get("messages") is None and row.get("prompt") is not None
    return as_asked(row.get("prompt"), "prompt") if is_prompt else question_of(row)


def _sharing(held_out: Sequence[Question], words: int) -> Callable[[Question], bool]:
    """Whether a prompt shares words in a row with a held-out question, or holds a whole one that has fewer."""
    if not words:
        return lambda _: False
    index = Index((("held out", text) for question in held_out for text in _telling(question, words)), words)

    def shares(prompt: Question) -> bool:
        hits = (index.find(text) for text in _said(prompt))
        # What is nearly the same asks something else: in the closed world often another name.
        return any(hit is not None and hit.how != "near" for hit in hits)

    return shares


def _telling(question: Question, words: int) -> list[str]:
    """The texts by which a question can be told: its only one, or the long ones of a conversation."""
    said = _said(question)
    return said if len(said) == 1 else [text for text in said if len(words_of(text)) >= words]


def _said(question: Question) -> list[str]:
    """What is said in a question; the system's turn is that of many others, too."""
    return [message.content for message in as_messages(question) if message.role != "system"]


def _turns(question: Question) -> list[tuple[str, ...]]:
    """What the user says, turn by turn, in words; of a turn without any, all that is not white space."""
    said = [message.content for message in as_messages(question) if message.role == "user"]
    return [tuple(words_of(text)) or ("".join(normalised(text).split()),) for text in said]


def _runs(turns: Sequence[tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], ...]]:
    """All turns that follow one another."""
    for start in range(len(turns)):
        for end in range(start + 1, len(turns) + 1):
            yield tuple(turns[start:end])
