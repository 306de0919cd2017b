"""Best of n: a model answers so many times, and a judge chooses."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from urllib.parse import unquote

from aligner.baselines.calls import sampling_of, usage_of
from aligner.baselines.choosing import best
from aligner.baselines.revising import is_whole
from aligner.errors import MisuseError, unknown
from aligner.jobs import map_ordered
from aligner.judge import Judge, MarkJudge, load_judge
from aligner.models import load_model
from aligner.prompts import Quality
from aligner.records import ChatModel, Completion, Message, SamplingParams, as_question

_GREEDY = SamplingParams()
_FORM = "best-of:N?judge=JUDGE&model=MODEL[&temperature=T]"
_OPTIONS = ("judge", "model", "temperature")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """Draws `n` answers, the first with the request's seed and each other with one made of it, and gives the best.

    Without a seed none has one. What is blank or was cut off is chosen only where there is nothing else. The usage is
    that of all `n` calls; what the judge reads is not in it.
    """

    model: ChatModel
    judge: Judge
    n: int
    temperature: float | None = None
    """none is that of the request, or 1 where several answers to a greedy one would be the same"""
    qualities: tuple[Quality, ...] = ()
    """none are all of a judge that marks answers, and helpful for one that compares them, which costs calls"""
    _marking: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise MisuseError(f"the best of {self.n} answers: there has to be at least 1")
        if others := [quality for quality in self.qualities if quality not in self.judge.qualities]:
            raise MisuseError(f"{self.judge.name} cannot judge what is {others[0]}")

    async def complete(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> Completion:
        """The best answer; raises what the model and the judge raise."""

        async def draw(place: int) -> Completion:
            return await self.model.complete(messages, self._sampling(sampling, place), prediction=prediction)

        drawn = [answer async for answer in map_ordered(draw, range(self.n), limit=self.n)]
        whole = [answer for answer in drawn if is_whole(answer)] or drawn[:1]
        texts = [answer.text for answer in whole]
        place = await best(self.judge, as_question(messages), texts, self._qualities(), marking=self._marking)
        return replace(whole[place], usage=usage_of(drawn))

    async def stream(
        self, messages: Sequence[Message], sampling: SamplingParams = _GREEDY, *, prediction: str | None = None
    ) -> AsyncIterator[str]:
        """The best answer in one piece, since it is not known before all of them are there."""
        yield (await self.complete(messages, sampling, prediction=prediction)).text

    def _sampling(self, sampling: SamplingParams, place: int) -> SamplingParams:
        if self.n == 1 and self.temperature is None:
            return sampling
        temperature = (sampling.temperature or 1.0) if self.temperature is None else self.temperature
        return replace(sampling_of(sampling, place), temperature=temperature)

    def _qualities(self) -> tuple[Quality, ...]:
        return self.qualities or (self.judge.qualities if isinstance(self.judge, MarkJudge) else ("helpful",))


def load(name: str) -> BestOf:
    """The model `best-of:N?judge=JUDGE&model=MODEL[&temperature=T]`; in the names, & is %26 and % is %25."""
    count, _, rest = name.partition("?")
    options = _options_in(rest)
    if not (count.isascii() and count.isdigit()):
        raise MisuseError(f'"best-of:{name}" does not say of how many answers: {_FORM}')
    if missing := [option for option in _OPTIONS[:2] if not options.get(option)]:
        raise MisuseError(f'"best-of:{name}" names no {missing[0]}: {_FORM}')
    temperature = _temperature_in(options)
    judge, model = load_judge(options["judge"]), load_model(options["model"])
    return BestOf(model=model, judge=judge, n=int(count), temperature=temperature)


def _options_in(text: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, text.split("&")):
        option, _, value = part.partition("=")
        if option not in _OPTIONS:
            raise unknown("option of best-of", option, _OPTIONS)
        if option in options:
            raise MisuseError(f"best-of: {option} is said twice; in a name, write & as %26")
        options[option] = unquote(value)
    return options


def _temperature_in(options: Mapping[str, str]) -> float | None:
    if "temperature" not in options:
        return None
    try:
        temperature = float(options["temperature"])
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature < math.inf:
        raise MisuseError(f'best-of: a temperature is a number from 0, not "{options["temperature"]}"')
    return temperature
