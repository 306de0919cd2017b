"""Arms of a study whose settings contradict themselves or one another."""

import re
from collections.abc import Iterator, Mapping, Sequence

from aligner.config import BootstrapArm
from aligner.config.bootstrapping import REWARDED, Sampling, Way
from aligner.errors import MisuseError
from aligner.planning.checking import above, least, of_stage
from aligner.training.prompts import check_sampled

_TABLES: Mapping[Way, tuple[str, ...]] = {
    "sft": ("sft",),
    "dpo": ("dpo",),
    "kto": ("kto",),
    **dict.fromkeys(REWARDED, ("reward", "rl")),
}
"""what each way reads"""
_ALL_TABLES = tuple(dict.fromkeys(table for tables in _TABLES.values() for table in tables))
_FOLDER_NAME = re.compile(r"\w[\w.-]*")
_TAKEN = re.compile(r"first|all|audit([-.].*)?|(config|curves|data|held_out|prompts|report)\..*")
"""what else lies in the folder of a study, or is said of all arms together"""


def of_arms(arms: Sequence[BootstrapArm], sampling: Sampling) -> Iterator[str]:
    """What cannot be meant of the arms, with the arm and the key."""
    yield from of_names([arm.name for arm in arms])
    for arm in arms:
        for problem in (*_of_other_ways(arm), *_of_numbers(arm), *_of_rewards(arm, sampling)):
            yield f'arm "{arm.name}": {problem}'


def of_names(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with the names of all arms together."""
    if not names:
        yield "--arms are none: a study needs at least one way of learning"
    seen: set[str] = set()
    for name in names:
        folded = name.casefold()  # some file systems do not know letter case
        if not _FOLDER_NAME.fullmatch(name):
            yield f'"{name}" cannot be the name of an arm: it names a folder, so letters, digits, ., _ and -'
        if _TAKEN.fullmatch(folded):
            yield f'"{name}" cannot be the name of an arm: something else in a study is called so'
        if folded in seen:
            yield f'two arms have the name "{name}"'
        seen.add(folded)


def _of_other_ways(arm: BootstrapArm) -> Iterator[str]:
    """A table that nothing reads was meant for something."""
    default, read = BootstrapArm(name=arm.name), _TABLES[arm.way]
    for table in _ALL_TABLES:
        if table not in read and getattr(arm, table) != getattr(default, table):
            wanted = " and ".join(f"[arms.{name}]" for name in read)
            yield f'[arms.{table}] has settings, but way is "{arm.way}", which reads {wanted}'


def _of_numbers(arm: BootstrapArm) -> Iterator[str]:
    for table in _ALL_TABLES:
        how = getattr(arm, table)
        yield from above(0, {f"{table}.epochs": how.epochs})
        yield from map(_keyed, of_stage(table, how))
    yield from above(0, {"dpo.beta": arm.dpo.beta, "kto.beta": arm.kto.beta})
    yield from least(2, {"kto.batch": arm.kto.batch})
    weights = {
        "dpo.sft_weight": arm.dpo.sft_weight,
        "kto.desirable_weight": arm.kto.desirable_weight,
        "kto.undesirable_weight": arm.kto.undesirable_weight,
        "reward.center": arm.reward.center,
        "rl.beta": arm.rl.beta,
        "rl.length_penalty": arm.rl.length_penalty,
    }
    yield from least(0, weights)


def _of_rewards(arm: BootstrapArm, sampling: Sampling) -> Iterator[str]:
    """What is sampled can be compared."""
    if arm.way in REWARDED:
        try:
            check_sampled(arm.rl, sampling)
        except MisuseError as error:
            yield str(error)


def _keyed(problem: str) -> str:
    """A problem with the key of a table, which has no flag."""
    flag, space, rest = problem.partition(" ")
    return f"{flag.replace('-', '_')}{space}{rest}"
