"""Judges: which of two answers to a question is better, by one quality. This file is how they are asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from aligner.errors import MisuseError, unknown
from aligner.judging.asking import Asker
from aligner.judging.marks import Mark, Marking, by_oracle, by_refusal, by_reward, by_truth, expected
from aligner.judging.verdicts import Verdict, Votes, together
from aligner.models import BACK_ENDS, load_model
from aligner.prompts import RUBRICS, Quality, Rubrics
from aligner.records import ChatModel, Question

__all__ = ["Judge", "MarkJudge", "PairJudge", "Verdict", "load_judge"]

_SAME = Verdict(0.5, "the answers are the same")


class Judge(Protocol):
    """Anybody who compares two answers to one question."""

    @property
    def name(self) -> str:
        """What it is called in a report; another name where it may judge otherwise."""
        ...

    @property
    def about(self) -> Mapping[str, object]:
        """Version and provenance, as JSON holds them."""
        ...

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """What it can judge by."""
        ...

    async def compare(self, question: Question, a: str, b: str, quality: Quality) -> Verdict:
        """Which is better; equal answers are a tie. Raises MisuseError for a quality that it cannot judge by."""
        ...


class PairJudge:
    """A language model that is shown both answers, in both orders.

    A win counts only if it survives the swap; with the votes `half` each order is half a vote.
    """

    def __init__(
        self, name: str, model: ChatModel, rubrics: Rubrics = RUBRICS["ours"], *, votes: Votes = "agree"
    ) -> None:
        self.name = f"{name} ({rubrics.name}-{rubrics.version}{', half votes' if votes == 'half' else ''})"
        self.qualities = tuple(rubrics.of)
        self.about: Mapping[str, object] = {
            "model": name,
            "rubrics": f"{rubrics.name}-{rubrics.version}",
            "rubrics_sha256": sha256(repr(sorted(rubrics.of.items())).encode()).hexdigest(),
            "votes": votes,
            "temperature": 0,
        }
        self._rubrics, self._asker = rubrics.of, Asker(model)
        self._votes: Votes = votes

    async def compare(self, question: Question, a: str, b: str, quality: Quality) -> Verdict:
        """The verdict of both orders; raises ModelError where the model gives no reply."""
        _check(self, quality)
        if a == b:
            return _SAME
        rubric, ask = self._rubrics[quality], self._asker.ask
        return together(await ask(rubric, question, a, b), await ask(rubric, question, b, a), self._votes)


@dataclass(frozen=True, slots=True)
class MarkJudge:
    """Marks each answer for itself, and prefers the one with the higher mark."""

    name: str
    mark: Mark = field(repr=False)
    qualities: tuple[Quality, ...]
    about: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)
    margin: float = 0.0
    """marks that differ by no more than this are equal"""
    prefer: Callable[[float], float] = field(default=expected, repr=False)
    """from how much higher the mark of b is to the preference for b"""

    async def compare(self, question: Question, a: str, b: str, quality: Quality) -> Verdict:
        """The verdict; raises what the mark raises."""
        _check(self, quality)
        if a == b:
            return _SAME
        before, after = self.mark(question, a, quality), self.mark(question, b, quality)
        gain = after - before
        said = f"{quality}: {before:.2f} for a, {after:.2f} for b"
        return Verdict(0.5 if abs(gain) <= self.margin else self.prefer(gain), said)


def load_judge(name: str, *, votes: Votes = "agree") -> Judge:
    """The judge of that name.

    `MODEL`             any language model that can be named, such as openai:MODEL[@BASE_URL], with our rubrics
    `published:MODEL`   the same with the rubrics that the paper published
    `truth:FOLDER`      a truth judge made by aligner train-judge
    `reward:FOLDER?quality=QUALITY`   a reward model, of what it has learnt to reward: helpful unless that is said
    `refusal:`          rules that know a refusal
    `world:`            the oracle of the closed world

    Raises MisuseError for any other name, and what the model or the folder raises when it cannot be loaded.
    """
    prefix, _, rest = name.partition(":")
    if prefix in _MARKINGS:
        return MarkJudge(*_MARKINGS[prefix](rest))
    rubrics, model = (RUBRICS[prefix], rest) if prefix in RUBRICS else (RUBRICS["ours"], name)
    if model.partition(":")[0] not in BACK_ENDS:
        raise unknown("judge", name, {f"{known}:" for known in (*_MARKINGS, *BACK_ENDS, *RUBRICS)})
    return PairJudge(model, load_model(model), rubrics, votes=votes)


_MARKINGS: Mapping[str, Callable[[str], Marking]] = {
    "truth": by_truth,
    "reward": by_reward,
    "refusal": by_refusal,
    "world": by_oracle,
}


def _check(judge: Judge, quality: Quality) -> None:
    if quality not in judge.qualities:
        raise MisuseError(f"{judge.name} cannot judge what is {quality}, only {', '.join(judge.qualities)}")
