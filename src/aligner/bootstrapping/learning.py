"""How the upstream learns from a lesson, in each of the ways."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from aligner.bootstrapping.encoding import answer_rows, labelled_rows, preference_pairs, prompts_for
from aligner.bootstrapping.guarding import chosen_fell
from aligner.bootstrapping.likelihood import log_likelihoods, token_mean
from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Lesson
from aligner.config import BootstrapArm, BootstrapConfig, Optimisation
from aligner.errors import MisuseError
from aligner.jobs import progress
from aligner.judging.reward import load_reward_model
from aligner.models.batched import stop_at
from aligner.models.coder import Coder
from aligner.models.generating import context_of, stops_of
from aligner.models.hf import CausalLM, load_causal_lm
from aligner.records import Question, SamplingParams
from aligner.training.adapter import Fit, Progress, fit, fit_reward, prefer, prefer_unpaired, reinforce, rewards_of
from aligner.training.adapter.reinforcing import Reward
from aligner.training.encode import HasIds, grouped_by_length, shuffled
from aligner.training.metrics import Metrics
from aligner.training.pairs import EncodedPairs
from aligner.training.prompts import Prompt

_LOOK_EVERY = 50
"""steps between two looks at the likelihood of the watched corrections"""
Row = TypeVar("Row", bound=HasIds)
T = TypeVar("T")
Teach = Callable[[Fit], Any]
"""from a plan to the model that comes out of it"""


class Room(NamedTuple):
    """What there is to learn with."""

    config: BootstrapConfig
    arm: BootstrapArm
    seed: int
    """of the order and the noise; another one in every round"""
    folder: Path
    """of the round: it gets metrics.jsonl"""
    say: Callable[[str], None]
    start: Path
    """the upstream as it was before"""
    reference: Path
    """whom it is held to"""
    lesson: Lesson
    prompts: Sequence[Question] = ()
    """what is asked again where it learns from rewards"""
    reward: Path | None = None
    """the reward model of the round, where the way needs one"""


class Lecture(NamedTuple):
    """A lesson as it is read: how, how many rows, and who teaches."""

    how: Optimisation
    rows: int
    teach: Teach


def learn(room: Room, place: Place) -> None:
    """Make the upstream that has learnt the lesson; killed and called again, it gets the same weights."""
    lm = _trainable(room.start, room.config)
    lecture = _WAYS[room.arm.way](room, lm)
    _save(lm._replace(model=_held(room, lecture, place, room.arm.way, _watch(room, lm))), place.path)


def learn_reward(room: Room, place: Place) -> None:
    """Make a model that tells corrections from what they are preferred to; it begins as the upstream."""
    lm, how = _trainable(room.start, room.config), room.arm.reward
    pairs = _in_order(room, how, _fitting(room, "reward", *_preferences(room, lm)))
    lecture = Lecture(how, len(pairs), partial(fit_reward, lm.model, lm.tokenizer, pairs, how=how))
    _save(lm._replace(model=_held(room, lecture, place, "reward")), place.path)


def _sft(room: Room, lm: CausalLM) -> Lecture:
    """The plain loss on corrections (paper, Table 4)."""
    how = room.arm.sft
    found = answer_rows(lm.tokenizer, room.lesson.pairs, max_length=_longest(room, lm))
    rows = _in_order(room, how, _fitting(room, "sft", found.rows, found.left_out))
    return Lecture(how, len(rows), partial(fit, lm.model, lm.tokenizer, rows))


def _dpo(room: Room, lm: CausalLM) -> Lecture:
    """The correction is chosen and the answer rejected."""
    how = room.arm.dpo
    pairs = _in_order(room, how, _fitting(room, "dpo", *_preferences(room, lm)))
    teach = partial(prefer, lm.model, lm.tokenizer, pairs, how=how, reference=_reference(room))
    return Lecture(how, len(pairs), teach)


def _kto(room: Room, lm: CausalLM) -> Lecture:
    """What the gate calls better is desirable and what it calls worse is not, each for itself."""
    how = room.arm.kto
    found = labelled_rows(lm.tokenizer, room.lesson.pairs, max_length=_longest(room, lm))
    rows = shuffled(_fitting(room, "kto", found.rows, found.left_out), epochs=how.epochs, seed=room.seed)
    teach = partial(prefer_unpaired, lm.model, lm.tokenizer, rows, how=how, reference=_reference(room))
    return Lecture(how, len(rows), teach)


def _by_rewards(room: Room, lm: CausalLM) -> Lecture:
    """The reward model marks what the upstream samples, from all words at the temperature of the study."""
    way, how = room.arm.way, room.arm.rl
    watched = {pair.question for pair in room.lesson.watched}
    asked = [question for question in room.prompts if question not in watched]
    # There is room for an answer of the greatest length, or else for one token.
    found = prompts_for(lm.tokenizer, asked, max_length=_longest(room, lm))
    prompts = _fitting(room, way, found.rows, found.left_out)
    told = {
        "how": how,
        "way": way,
        "reward": _reward(room, lm, prompts),
        "sampling": replace(room.config.sampling, top_p=1.0, top_k=0),
        "reference": _reference(room),
        "stops": _stops(lm, SamplingParams()),
    }
    steps = how.steps_for(ceil(len(prompts) * how.epochs) * how.samples)
    teach = partial(reinforce, lm.model, lm.tokenizer, prompts, **told)
    return Lecture(how, steps * how.rows_a_step, teach)


def _reward(room: Room, lm: CausalLM, prompts: Sequence[Prompt]) -> Reward:
    """What the reward model gives, less what is taken for length; the lowest of a step for an answer without an end."""
    if room.reward is None:
        raise MisuseError(f"{room.arm.way}: there is no reward model to learn from")
    how, coder, model = room.arm.rl, Coder(lm.tokenizer), load_reward_model(str(room.reward), room.config.device).model
    read = {prompt.number: prompt.ids for prompt in prompts}
    longest = max((len(coder.completion(pair.chosen)) for pair in room.lesson.pairs), default=0)
    end = lm.tokenizer.eos_token_id

    def reward(numbers: Sequence[int], _: Sequence[str], ids: Sequence[Sequence[int]]) -> list[float]:
        rows = [(*read[number], *written) for number, written in zip(numbers, ids, strict=True)]
        given = rewards_of(model, rows, batch=how.batch)
        beyond = [max(0, len(written) - longest) for written in ids]
        marks = [mark - how.length_penalty * tokens for mark, tokens in zip(given, beyond, strict=True)]
        return [mark if [*written][-1:] == [end] else min(marks) for mark, written in zip(marks, ids, strict=True)]

    return reward


_WAYS: Mapping[str, Callable[[Room, CausalLM], Lecture]] = {
    "sft": _sft,
    "dpo": _dpo,
    "kto": _kto,
    "rloo": _by_rewards,
    "grpo": _by_rewards,
}


def _held(
    room: Room, lecture: Lecture, place: Place, title: str, is_enough: Callable[[Any, int], bool] | None = None
) -> Any:
    """The model that comes out, while figures are kept and progress is shown."""
    config, metrics, how = room.config, Metrics(room.folder), lecture.how
    try:
        with progress(title, total=lecture.rows) as tick:
            seen = 0

            def report(now: Progress) -> None:
                nonlocal seen
                figures = now._asdict()
                metrics.log(title, figures.pop("step"), figures)
                tick(now.rows - seen, f"loss {now.loss:.3f}, {now.tokens_per_second:,.0f} tokens/s")
                seen = now.rows

            plan = Fit(
                stage=how,
                folder=place.scratch,
                seed=room.seed,
                save_every=config.save_every,
                lora=config.lora,
                on_progress=report,
                check_every=_LOOK_EVERY if is_enough else 0,
                is_enough=is_enough or _never,
            )
            return lecture.teach(plan)
    finally:
        metrics.close()


def _watch(room: Room, lm: CausalLM) -> Callable[[Any, int], bool] | None:
    """Whether the watched corrections have become so unlikely that the round will be rolled back anyway."""
    guards, watched = room.config.guards, room.lesson.watched
    if room.arm.accept == "always" or not guards.chosen or not watched:
        return None
    rows = answer_rows(lm.tokenizer, watched, max_length=_longest(room, lm)).rows
    before = token_mean(log_likelihoods(lm.model, rows))
    return lambda model, _: chosen_fell(before, token_mean(log_likelihoods(model, rows)), guards).tripped


def _never(_model: object, _step: int) -> bool:
    return False


def _in_order(room: Room, how: Optimisation, rows: Sequence[Row]) -> list[Row]:
    """As it is read: anew for every epoch, and what is of like length together."""
    order = shuffled(rows, epochs=how.epochs, seed=room.seed)
    return grouped_by_length(order, batch=how.rows_a_step, seed=room.seed)


def _longest(room: Room, lm: CausalLM) -> int:
    """Tokens of question and answer together, within the upstream's context."""
    wanted = room.config.max_length
    return min(wanted, context_of(lm.model, lm.tokenizer) or wanted)


def _preferences(room: Room, lm: CausalLM) -> EncodedPairs:
    return preference_pairs(lm.tokenizer, room.lesson.pairs, max_length=_longest(room, lm))


def _fitting(room: Room, what: str, rows: list[T], left_out: int) -> list[T]:
    """The rows that can be learnt; how many cannot is told. Raises MisuseError where none can."""
    if left_out:
        room.say(f"{what}: {left_out:,} rows left out: too long, without a side that it needs, or not to be encoded")
    if not rows:
        raise MisuseError(f"{what}: no row can be learnt from, of {left_out:,}; raise max_length, in another --out")
    return rows


def _reference(room: Room) -> Callable[[], Any] | None:
    """Loads another model than the one that learns; none where it is held to itself as it begins."""
    return None if room.reference == room.start else lambda: _trainable(room.reference, room.config).model


def _stops(lm: CausalLM, sampling: SamplingParams) -> Callable[[], Callable[[int], bool]] | None:
    """What ends an answer besides its end: where there is no chat format, the next turn of the user."""
    strings = stops_of(lm.tokenizer, sampling)
    return partial(stop_at, lm.tokenizer, strings) if strings else None


def _trainable(folder: Path, config: BootstrapConfig) -> CausalLM:
    """In float32: on a GPU, training computes in bfloat16 but keeps exact weights."""
    return load_causal_lm(folder, config.device, dtype=torch.float32)


def _save(lm: CausalLM, folder: Path) -> None:
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
