"""The last step of a round: it is measured beside the others, and accepted or rolled back."""

from collections.abc import Mapping, Sequence
from math import inf, isnan
from pathlib import Path
from typing import Any

from aligner.bootstrapping.answering import asked_in
from aligner.bootstrapping.auditing import Audited, audit
from aligner.bootstrapping.correcting import corrected_in
from aligner.bootstrapping.crew import Crew
from aligner.bootstrapping.encoding import answer_rows, own_rows
from aligner.bootstrapping.gating import fates, gated_in
from aligner.bootstrapping.guarding import decide, verdict_to_json, weigh
from aligner.bootstrapping.likelihood import divergence, log_likelihoods
from aligner.bootstrapping.lineage import Artefact, Place
from aligner.bootstrapping.measuring import (
    HeldOut,
    Likelihoods,
    Yardstick,
    found_of,
    found_to_json,
    measure,
    token_count,
)
from aligner.bootstrapping.mixing import lesson_in
from aligner.bootstrapping.nouns import Pair, Verdict
from aligner.bootstrapping.parents import json_in
from aligner.bootstrapping.standing import Beside
from aligner.config import BootstrapArm, BootstrapConfig
from aligner.evaluating.figures import plain
from aligner.files import write_json_atomic, write_text_atomic
from aligner.models.hf import CausalLM, load_causal_lm
from aligner.records import Question
from aligner.scoring.intervals import Interval

_FIRST = Verdict(accepted=True, guards=(), why="It is where all rounds begin.")


def evaluate(
    config: BootstrapConfig, arm: BootstrapArm, crew: Crew, beside: Beside, questions: Sequence[Question], place: Place
) -> None:
    """Write what the round is worth, and what follows, as JSON; the judge is asked nothing twice."""
    model, round_0 = load_causal_lm(beside.made.upstream.path, config.device), beside.first.found
    held_out = _held_out(questions, beside)
    by = Yardstick(crew.judge, config.gate.qualities, token_count(model.tokenizer), config.oracle)
    likely = _likely(config, model, beside) if round_0 else Likelihoods()
    found = measure(held_out, likely, by, scratch=place.scratch)
    first = found_of(json_in(round_0.path)["found"]) if round_0 else None
    verdict = decide(weigh(found, first, config.guards), arm.accept) if first else _FIRST
    kept = {"found": found_to_json(found), "verdict": verdict_to_json(verdict)}
    if beside.gate:
        kept["audit"] = plain(audited(config, crew, beside.gate, place.scratch))
    write_json_atomic(place.path, kept)


def _held_out(questions: Sequence[Question], beside: Beside) -> HeldOut:
    now, accepted, first = (_texts(one.held_out) for one in (beside.made, beside.now, beside.first.standing))
    corrections = [row.correction for row in corrected_in(beside.first.corrections.path)]
    return HeldOut(questions, now, accepted, first, corrections, _texts(beside.greedy) if beside.greedy else None)


def _texts(answers: Artefact) -> list[str]:
    return [row.answer for row in asked_in(answers.path)]


def _likely(config: BootstrapConfig, model: CausalLM, beside: Beside) -> Likelihoods:
    """What the models find likely, one of them in memory beside this round's at a time."""
    watched: Sequence[Pair] = lesson_in(beside.lesson.path).watched if beside.lesson else ()
    rows = answer_rows(model.tokenizer, watched, max_length=config.max_length).rows
    said = asked_in(beside.made.held_out.path)
    answers = own_rows(model.tokenizer, said, max_length=config.max_length).rows
    before, first = beside.now.upstream.path, beside.first.standing.upstream.path
    start = load_causal_lm(before, config.device).model
    origin = start if before == first else load_causal_lm(first, config.device).model
    now, then = (log_likelihoods(one, rows) for one in (model.model, start))
    kl = divergence(model.model, origin, answers)
    # A model whose likelihoods are no numbers any more has gone as far as can be.
    return Likelihoods(now, then, Interval(inf, inf, inf) if answers and isnan(kl.value) else kl)


def audited(config: BootstrapConfig, crew: Crew, gate: Artefact, scratch: Path) -> Audited:
    """Write the sample of a gate's decisions down for people, unless it is there; how far another judge agrees."""
    path, for_people = scratch / "audit.jsonl", audit_file(gate.path.parent, gate.sha256)
    found = audit(
        crew.audit_judge,
        gated_in(gate.path),
        count=config.audit,
        seed=0,
        qualities=config.gate.qualities,
        path=path,
        named=for_people.name,
    )
    if not for_people.exists():  # people may have written into it
        write_text_atomic(for_people, path.read_text(encoding="utf-8"))
    return found


def nothing_learnt(gate: Artefact) -> Mapping[str, Any]:
    """The verdict on a round without a lesson."""
    counts = ", ".join(f"{count:,} {fate}" for fate, count in fates(gated_in(gate.path)).items() if count)
    why = f"Nothing passed the gate, so that there is nothing to learn: {counts}."
    return verdict_to_json(Verdict(accepted=False, guards=(), why=why))


def verdict_in(path: Path) -> Mapping[str, Any]:
    """The verdict in what `evaluate` wrote."""
    return json_in(path)["verdict"]


def audit_file(folder: Path, gate: str) -> Path:
    """The sample of a gate's decisions that people write into; a gate that decides anew has another one."""
    return folder / f"audit-{gate[:12]}.jsonl"
