"""Who marks answers one by one: the world's oracle, rules for refusals, and the trained truth judge."""

from collections.abc import Callable, Mapping
from math import tanh
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from aligner.errors import MisuseError, ModelError, unknown
from aligner.judging.truth import TruthJudge
from aligner.prompts import QUALITIES, Quality, text_of
from aligner.records import Question, as_messages
from aligner.tasks.refusals import refuses
from aligner.world.measure import QUALITIES as OF_THE_WORLD
from aligner.world.oracle import mark
from aligner.world.questions import read_question

Mark = Callable[[Question, str, Quality], float]
"""How good an answer is by a quality; most often how likely it is good, and 0 or 1 where that is certain."""


def expected(gain: float) -> float:
    """The preference to be expected where marks are the probabilities, from 0 to 1, that the answers are good."""
    return 0.5 + gain / 2


def bradley_terry(gain: float) -> float:
    """The preference where marks are rewards, as reward models are trained (Bradley and Terry, 1952)."""
    return (1 + tanh(gain / 2)) / 2


class Marking(NamedTuple):
    """A way to mark answers, and what there is to say of it."""

    name: str
    mark: Mark
    qualities: tuple[Quality, ...]
    about: Mapping[str, object]
    margin: float = 0.0
    """marks that differ by no more than this are equal"""
    prefer: Callable[[float], float] = expected
    """from how much higher the mark of b is to the preference for b"""


def by_oracle(rest: str) -> Marking:
    """The oracle of the closed world; marking raises ModelError for a question that the world does not know."""
    _no_name("world:", rest)
    return Marking("the oracle", _oracle, OF_THE_WORLD, {"kind": "oracle of the closed world"})


def by_refusal(rest: str) -> Marking:
    """Rules that know a refusal: it helps nobody."""
    _no_name("refusal:", rest)
    return Marking("refusal rules", _refusal, ("helpful",), {"kind": "rules: an answer that refuses is not helpful"})


def by_truth(rest: str) -> Marking:
    """A truth judge that `aligner train-judge` made, in that folder.

    Its marks are equal where they differ by less than twice its calibration error, which each of them may have.
    """
    if not rest:
        raise MisuseError('"truth:" needs a folder: truth:FOLDER, made by aligner train-judge')
    judge = TruthJudge.load(Path(rest))

    def probability(question: Question, answer: str, _: Quality) -> float:
        return judge.probability(text_of(question), answer)

    return Marking(
        f"truth:{Path(rest).name}@{judge.fingerprint}",
        probability,
        ("honest",),
        judge.card,
        margin=2 * judge.calibration_error,
    )


def by_reward(rest: str) -> Marking:
    """A reward model, `FOLDER_OR_HUB_ID` or `FOLDER_OR_HUB_ID?quality=QUALITY` for what it has learnt to reward.

    Another one under the same name is another judge: what that is called ends with the model's fingerprint.
    """
    name, _, options = rest.partition("?")
    if not name:
        raise MisuseError('"reward:" needs a folder or a hub id: reward:FOLDER_OR_HUB_ID?quality=helpful')
    quality = dict(parse_qsl(options, keep_blank_values=True)).get("quality", "helpful")
    if quality not in QUALITIES:
        raise unknown("quality", quality, QUALITIES)
    from aligner.judging.reward import load_reward_model  # torch takes seconds to import

    model = load_reward_model(name)

    def reward(question: Question, answer: str, _: Quality) -> float:
        return model.reward(question, answer)

    about = {"kind": "reward model", "model": name}
    return Marking(f"reward:{rest}@{model.fingerprint}", reward, (quality,), about, prefer=bradley_terry)


def _oracle(question: Question, answer: str, quality: Quality) -> float:
    asked = read_question(as_messages(question)[-1].content)
    if asked is None:
        raise ModelError(f'world: the closed world has no such question: "{text_of(question):.80}"')
    marks = mark(asked, answer)._asdict()
    return float(marks[quality])


def _refusal(_: Question, answer: str, __: Quality) -> float:
    return float(not refuses(answer))


def _no_name(prefix: str, rest: str) -> None:
    if rest:
        raise MisuseError(f'"{prefix}" takes no name, but has "{rest}"')
