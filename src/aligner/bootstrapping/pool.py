"""What a study asks: read, kept apart, and known to whoever has to mark it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

import orjson

from aligner.bootstrapping.questions import apart, questions_of
from aligner.config import BootstrapConfig
from aligner.errors import MisuseError
from aligner.prompts import text_of
from aligner.records import Question, as_messages
from aligner.world.questions import read_question
from aligner.world.words import Split

_FEWEST_HELD_OUT = 20
"""with fewer, no interval says anything"""
_ORACLE = "world:"


class Pool(NamedTuple):
    """All questions of a study."""

    prompts: Sequence[Question]
    """from which every round draws its own"""
    held_out: Sequence[Question]
    """on which nothing is learnt"""

    @property
    def hashes(self) -> Mapping[str, str]:
        """What tells whether they are still the same."""
        return {name: sha256(orjson.dumps(asked)).hexdigest() for name, asked in self._asdict().items()}


def pool_of(config: BootstrapConfig, say: Callable[[str], object]) -> Pool:
    """Read the prompts, one pool for all seeds, without what is held out, and say how many that leaves out.

    Raises InputFileError for a row that cannot be used, and MisuseError where none are left, where too few are held
    out, and for a question that the closed world does not know, where its oracle has to mark it.
    """
    held_out = _questions(config, "held_out", "unseen")
    if len(held_out) < _FEWEST_HELD_OUT:
        few = f"{len(held_out)} questions that differ; at least {_FEWEST_HELD_OUT} are needed"
        raise MisuseError(f"--held-out {config.held_out}: has {few}, or no interval would say anything")
    prompts = _questions(config, "prompts", "seen")
    kept, left_out = apart(prompts, held_out, words=config.max_overlap)
    for reason, count in left_out.items():
        say(f"{count:,} of {len(prompts):,} prompts left out, for what is held out: {reason}")
    if not kept:
        raise MisuseError(f"--prompts {config.prompts}: all of them are held out; nothing is left to ask")
    pool = Pool(kept, held_out)
    _check_known(config, pool)
    return pool


def _questions(config: BootstrapConfig, name: str, split: Split) -> list[Question]:
    return questions_of(getattr(config, name), split, seed=0, on_bad_row=config.on_bad_row, out=config.out / name)


def _check_known(config: BootstrapConfig, pool: Pool) -> None:
    """Whoever marks by the closed world is never asked about anything else, which would be told hours later."""
    for who, questions in _marked_by_the_world(config, pool):
        for question in questions:
            if read_question(as_messages(question)[-1].content) is None:
                asked = f'the closed world has no such question: "{text_of(question):.80}"'
                raise MisuseError(f"{who}: {asked}; ask what the world knows, or name another")


def _marked_by_the_world(config: BootstrapConfig, pool: Pool) -> Iterator[tuple[str, Sequence[Question]]]:
    if config.oracle:
        yield f"--oracle {config.oracle}", pool.held_out
    if config.judge == _ORACLE:
        yield f"--judge {config.judge}", [*pool.held_out, *pool.prompts]
    if config.audit_judge == _ORACLE:
        yield f"--audit-judge {config.audit_judge}", pool.prompts
