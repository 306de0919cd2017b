"""What each step of a round comes from, and how it is made; their order is in `bootstrap.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import orjson

from aligner.bootstrapping.answering import answer, asked_in
from aligner.bootstrapping.correcting import correct, corrected_in
from aligner.bootstrapping.crew import Crew
from aligner.bootstrapping.gating import gate, gated_in
from aligner.bootstrapping.lineage import Artefact, Lineage, Place
from aligner.bootstrapping.mixing import left_out, lesson_of, save_lesson
from aligner.bootstrapping.questions import apart
from aligner.bootstrapping.standing import Beside
from aligner.bootstrapping.study import Study
from aligner.bootstrapping.weighing import audited, evaluate, nothing_learnt, verdict_in
from aligner.config import BootstrapArm, BootstrapConfig
from aligner.config.bootstrapping import Sampling
from aligner.data.fields import question_of
from aligner.files import bad_rows_named, read, write_rows
from aligner.jobs import progress
from aligner.models.hf import load_causal_lm
from aligner.records import Question

_ROUNDS = 1_000
"""no study has more, so that no two rounds share a seed"""
_ANSWERS = 1_000_000
"""likewise answers of a round"""
_HELD_OUT_SEED = 7
"""of what upstreams say to held-out prompts: the same in every round, and none of the rounds' own"""


class ToDo(NamedTuple):
    """A step: all that it depends on, and how it is made."""

    inputs: Mapping[str, Any]
    make: Callable[[Place], object]


@dataclass(frozen=True)
class RowSteps:
    """The steps of one round of one arm with one seed that make rows; round 0 is that of the first upstream."""

    study: Study
    crew: Crew
    arm: BootstrapArm
    seed: int
    number: int = 0

    @property
    def config(self) -> BootstrapConfig:
        """That of the study."""
        return self.study.config

    @cached_property
    def lineage(self) -> Lineage:
        """The folder of the round."""
        return self.study.round(self.arm, self.seed, self.number) if self.number else self.study.first(self.seed)

    @property
    def noise(self) -> int:
        """The seed of all that is drawn in the round."""
        return self.seed * _ROUNDS + self.number

    @cached_property
    def first_upstream(self) -> Artefact:
        """The upstream of round 0."""
        return Artefact(self.study.upstream(self.seed), self.study.stamps[f"upstream {self.seed}"])

    def of(self, number: int) -> Self:
        """The steps of another round."""
        return replace(self, number=number)

    def prompts(self) -> ToDo:
        """What the round asks."""
        asked = self.study.prompts(self.seed, self.number)

        def make(place: Place) -> None:
            write_rows(place.path, map(_row_of, asked))

        return ToDo({"prompts": _hash(asked)}, make)

    def answers(self, upstream: Artefact, prompts: Artefact) -> ToDo:
        """What the upstream says to them."""
        asked = partial(questions_in, prompts.path)
        inputs = {"prompts": prompts.sha256}
        return self._answers(upstream, asked, inputs, self.config.sampling, self.noise * _ANSWERS)

    def held_out(self, upstream: Artefact) -> ToDo:
        """What the upstream says to the held-out prompts, drawn with the noise of every other round."""
        return self._answers(upstream, self._asked, self._held_out, self.config.sampling, _HELD_OUT_SEED)

    def greedy(self, upstream: Artefact) -> ToDo:
        """The same without chance."""
        sampling = Sampling(max_tokens=self.config.sampling.max_tokens, temperature=0.0)
        return self._answers(upstream, self._asked, self._held_out, sampling, 0)

    def corrections(self, answers: Artefact) -> ToDo:
        """What the Aligners make of the answers."""
        config, stamps = self.config, self.study.stamps
        aligners = [stamps[f"aligner {place}"] for place in range(len(config.aligners))]
        inputs = {"answers": answers.sha256, "aligners": aligners, "passes": config.passes}

        def make(place: Place) -> None:
            asked = asked_in(answers.path)
            with progress("correct", len(asked), unit="answers") as tick:
                correct(self.crew.aligners, asked, passes=config.passes, batch=config.batch, place=place, tick=tick)

        return ToDo({**inputs, "aligner_gate": config.aligner_gate}, make)

    def gate(self, corrections: Artefact) -> ToDo:
        """Which corrections are learnt from."""
        how = self.config.gate

        def make(place: Place) -> None:
            corrected = corrected_in(corrections.path)
            with progress("gate", len(corrected), unit="corrections") as tick:
                gate(self.crew.judge, corrected, how, place=place, tick=tick)

        inputs = {"corrections": corrections.sha256, "judge": self.study.stamps["judge"]}
        return ToDo({**inputs, "qualities": how.qualities, "min_edit": how.min_edit}, make)

    def lesson(self, gated: Artefact, earlier: Sequence[Artefact]) -> ToDo:
        """What is learnt, and what is only watched."""
        mix, how, way = self.config.mix, self.config.gate, self.arm.way

        def make(place: Place) -> None:
            rows = gated_in(gated.path)
            before = [row for artefact in earlier for row in gated_in(artefact.path)]
            original = self._original()
            for name, count in left_out(rows, original, mix=mix, gate=how, way=way).items():
                self.study.say(f"{self.arm.name}: {way} cannot learn from {count:,} {name} rows: they reject nothing")
            lesson = lesson_of(rows, before, original, mix=mix, gate=how, way=way, seed=self.noise)
            save_lesson(lesson, place.path)

        inputs = {
            "gate": gated.sha256,
            "earlier": [artefact.sha256 for artefact in earlier],
            "original": [self.crew.original_hash, _hash(self._asked())] if self.crew.original_hash else [],
            "mix": [mix.earlier, mix.original_share],
            "unchanged": how.unchanged,
            "rows": way if way in ("sft", "kto") else "pairs",
            "noise": self.noise,
        }
        return ToDo(inputs, make)

    def evaluation(self, beside: Beside) -> ToDo:
        """What the round is worth, and whether it is accepted."""
        config, stamps = self.config, self.study.stamps
        inputs: dict[str, Any] = {
            **beside.hashes,
            "judge": stamps["judge"],
            "qualities": config.gate.qualities,
            "oracle": config.oracle,
        }
        if self.number:
            inputs |= {"guards": asdict(config.guards), "accept": self.arm.accept}
            inputs |= {"audit": [stamps.get("audit_judge", ""), config.audit]}
        measured = partial(evaluate, config, self.arm, self.crew, beside, self.study.held_out)
        return ToDo(inputs, measured)

    def decide(self, evaluation: Artefact) -> bool:
        """Say that the round is done, by what it was found to be worth; whether it is accepted."""
        verdict = verdict_in(evaluation.path)
        self.lineage.finish(verdict)
        return bool(verdict["accepted"])

    def give_up(self, gated: Artefact) -> None:
        """Say that the round is done, since nothing passed the gate; of that, too, people get a sample."""
        with TemporaryDirectory() as scratch:
            audited(self.config, self.crew, gated, Path(scratch))
        self.lineage.finish(nothing_learnt(gated))

    def told(self) -> str:
        """The round, once it has ended, in one line."""
        verdict = self.lineage.verdict or {}
        ended = "accepted" if verdict.get("accepted") else "rolled back"
        return f"{self.arm.name}, seed {self.seed}, round {self.number}: {ended}. {verdict.get('why', '')}"

    def _original(self) -> list[tuple[Question, str]]:
        """Rows of the upstream's first training, but for those that are held out."""
        rows = self.crew.original
        found = apart([asked for asked, _ in rows], self.study.held_out, words=self.config.max_overlap)
        for reason, count in found.left_out.items():
            self.study.say(f"{count:,} of {len(rows):,} original rows left out, for what is held out: {reason}")
        kept = {*found.kept}
        return [row for row in rows if row[0] in kept]

    def _asked(self) -> Sequence[Question]:
        return self.study.held_out

    @property
    def _held_out(self) -> Mapping[str, Any]:
        return {"held_out": _hash(self._asked())}

    def _answers(
        self,
        upstream: Artefact,
        questions: Callable[[], Sequence[Question]],
        inputs: Mapping[str, Any],
        sampling: Sampling,
        seed: int,
    ) -> ToDo:
        batch = self.config.batch

        def make(place: Place) -> None:
            lm, asked = load_causal_lm(upstream.path, self.config.device), questions()
            with progress("answer", len(asked), unit="answers") as tick:
                answer(lm, asked, sampling, seed=seed, batch=batch, place=place, tick=tick)

        return ToDo({**inputs, "upstream": upstream.sha256, "sampling": asdict(sampling), "seed": seed}, make)


def questions_in(path: Path) -> list[Question]:
    """What a round asked."""
    return [parsed.value for parsed in read(path, question_of, bad_rows=bad_rows_named("stop", path))]


def _hash(questions: Sequence[Question]) -> str:
    return sha256(orjson.dumps(questions)).hexdigest()


def _row_of(question: Question) -> Mapping[str, object]:
    return {"question": question if isinstance(question, str) else [asdict(turn) for turn in question]}
