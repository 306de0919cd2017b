"""Laws of learning from single answers that are desirable or not, on tiny random models."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model

from aligner.bootstrapping.encoding import labelled_rows
from aligner.bootstrapping.likelihood import log_likelihoods
from aligner.bootstrapping.nouns import Pair
from aligner.config import Lora
from aligner.config.bootstrapping import KTOArm
from aligner.errors import MisuseError
from aligner.models.hf import load_causal_lm
from aligner.training.adapter import Fit, Progress, prefer_unpaired
from aligner.training.encode import EncodedRow, shuffled
from aligner.training.pairs import LabelledRow

_HOW = KTOArm(batch=4, accumulate=2, learning_rate=3e-3, warmup=0.0)
_PAIRS = [Pair(f"What is {i} and 1?", f"It is {i + 1}, I think.", f"I do not know {i}.") for i in range(24)]


def _rows(base: Path) -> list[LabelledRow]:
    found = labelled_rows(load_causal_lm(base, "cpu").tokenizer, _PAIRS, max_length=200)
    return shuffled(found.rows, epochs=1, seed=2)


def _learnt(
    base: Path, out: Path, how: KTOArm = _HOW, rows: Sequence[LabelledRow] = (), reference: Any = None, **changes: Any
) -> tuple[Path, list[Progress]]:
    """Where the weights lie that come of that base, and what was told."""
    lm, told = load_causal_lm(base, "cpu"), list[Progress]()
    plan = Fit(stage=how, folder=out, seed=0, save_every=2, on_progress=told.append, **changes)
    model = prefer_unpaired(lm.model, lm.tokenizer, rows or _rows(base), plan, how, reference)
    assert "forward" not in vars(model)  # what TRL puts there would have a copy use the weights of its original
    model.save_pretrained(out / "model")
    return out / "model" / "model.safetensors", told


def _likelihoods(model: Any, rows: Sequence[LabelledRow]) -> list[float]:
    """The log-likelihood of each completion."""
    return [found for found, _ in log_likelihoods(model, [EncodedRow(row.ids, len(row.prompt)) for row in rows])]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_what_is_desirable_becomes_likely(base: Path, tmp_path: Path) -> None:
    """It begins where the model began; then desirable answers become likelier, and undesirable ones less likely."""
    weights, told = _learnt(base, tmp_path / "out", replace(_HOW, accumulate=1))
    assert told[0].extra["kl"] == told[0].extra["rewards/chosen"] == told[0].extra["rewards/rejected"] == 0
    assert told[0].loss == pytest.approx(0.5)
    assert told[-1].loss < told[0].loss
    before, after = (load_causal_lm(folder, "cpu").model for folder in (base, _with_tokenizer(weights.parent, base)))
    for desirable in (True, False):
        rows = [row for row in _rows(base) if row.desirable == desirable]
        assert (fmean(_likelihoods(after, rows)) > fmean(_likelihoods(before, rows))) == desirable


def test_a_step_reads_the_rows_in_their_order(base: Path, tmp_path: Path) -> None:
    """Rewards are of the first rows; the divergence is of each prompt with the completion before it in the batch."""
    first = load_causal_lm(tiny_model(tmp_path / "first", seed=2), "cpu").model
    (told,) = _learnt(base, tmp_path / "out", replace(_HOW, max_steps=1), reference=first)[1]
    model, rows = load_causal_lm(base, "cpu").model, _rows(base)
    batches = [rows[:4], rows[4:8]]
    assert {row.desirable for row in rows[:8]} == {True, False}
    gone = [_gone(model, first, [row for row in batch if row.desirable]) for batch in batches]
    assert told.extra["rewards/chosen"] == pytest.approx(_HOW.beta * fmean(gone), rel=1e-4)
    others = [[_with(row, other) for row, other in zip(batch, [batch[-1], *batch], strict=False)] for batch in batches]
    assert told.extra["kl"] == pytest.approx(fmean(max(_gone(model, first, rows), 0) for rows in others), rel=1e-4)
    assert told.extra["kl"] > 0
    assert told.rows == 8


def test_a_step_may_lack_one_side(base: Path, tmp_path: Path) -> None:
    """What is told of undesirable answers is left out where there are none; the last step is filled up."""
    rows = [row for row in _rows(base) if row.desirable][:5]
    _, told = _learnt(base, tmp_path / "out", _HOW, rows)
    assert [sorted(progress.extra) for progress in told] == [["kl", "logps/chosen", "rewards/chosen"]]
    assert (told[0].steps, told[0].rows) == (1, 8)


def test_no_row_is_read_that_is_longer_than_all_rows(base: Path, tmp_path: Path) -> None:
    """A long prompt with the long completion of another row is cut to the length of the longest row."""
    long, short = tuple(range(30, 230)), (5, 6)
    rows = [LabelledRow(long, short, desirable=True), LabelledRow(short, long, desirable=False)] * 2
    lm, read = load_causal_lm(base, "cpu"), list[int]()
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda _, given: read.append(given[0].shape[1]))
    plan = Fit(stage=replace(_HOW, accumulate=1), folder=tmp_path / "out", seed=0, save_every=2)
    prefer_unpaired(lm.model, lm.tokenizer, rows, plan, replace(_HOW, accumulate=1))
    assert set(read) == {202}


@pytest.mark.slow
def test_a_reference_that_is_loaded_for_it_is_gone_when_it_learns(base: Path, tmp_path: Path) -> None:
    """What it gives is computed first; it is the same as that of a model which is handed in."""
    how, alive = replace(_HOW, max_steps=2), list[bool]()
    first, loaded = tiny_model(tmp_path / "first", seed=2), list[weakref.ref[Any]]()

    def load() -> Any:
        model = load_causal_lm(first, "cpu").model
        loaded.append(weakref.ref(model))
        return model

    def look(*_: object) -> None:
        gc.collect()
        alive.append(loaded[0]() is not None)

    there, _ = _learnt(base, tmp_path / "there", how, reference=load_causal_lm(first, "cpu").model)
    weights, _ = _learnt(base, tmp_path / "out", how, reference=load, measure_every=1, measure=look)
    assert (len(loaded), alive) == (1, [False, False])
    assert weights.read_bytes() == there.read_bytes()


def test_batches_of_one_row_are_refused(base: Path, tmp_path: Path) -> None:
    """A row alone has no other to be mismatched with."""
    with pytest.raises(MisuseError, match=r"kto\.batch = 1: .* choose 2 or more"):
        _learnt(base, tmp_path / "out", replace(_HOW, batch=1))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_a_copy_as_the_reference_changes_nothing(base: Path, tmp_path: Path, rank: int) -> None:
    """The model itself, without its adapters, is the reference where no other is given; adapters are merged."""
    how, lora = replace(_HOW, max_steps=2), Lora(rank=rank)
    own, told = _learnt(base, tmp_path / "own", how, lora=lora)
    copy, _ = _learnt(base, tmp_path / "copy", how, reference=load_causal_lm(base, "cpu").model, lora=lora)
    assert told[0].extra["rewards/chosen"] == 0
    assert copy.read_bytes() == own.read_bytes()
    trained, before = load_file(own), load_file(base / "model.safetensors")
    assert trained.keys() == before.keys()
    assert any(not torch.equal(trained[name], before[name]) for name in before if "q_proj" in name)


@pytest.mark.slow
def test_an_interruption_changes_nothing(base: Path, tmp_path: Path) -> None:
    """Interrupted behind a checkpoint, the same call ends with the same bytes."""
    how = replace(_HOW, max_steps=4)
    undisturbed, _ = _learnt(base, tmp_path / "undisturbed", how)
    with pytest.raises(KeyboardInterrupt):
        _learnt(base, tmp_path / "out", how, measure_every=3, measure=_interrupt)
    assert [path.parent.name for path in (tmp_path / "out").glob("checkpoint-*/COMPLETE")] == ["checkpoint-2"]
    weights, _ = _learnt(base, tmp_path / "out", how)
    assert weights.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_processes_share_a_step(base: Path, tmp_path: Path) -> None:
    """Two processes with half of the batches of a step each learn the same as one with all, where nothing has moved."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", __file__]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    out = str(tmp_path / "two")
    done = subprocess.run([*command, str(base), out], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    one, _ = _learnt(base, tmp_path / "one", replace(_HOW, max_steps=1))
    trained, other = load_file(one), load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert all(torch.allclose(trained[name], other[name], atol=1e-5) for name in trained)


def _gone(model: Any, first: Any, rows: Sequence[LabelledRow]) -> float:
    """The mean log ratio of the completions."""
    return fmean(_likelihoods(model, rows)) - fmean(_likelihoods(first, rows))


def _with(row: LabelledRow, other: LabelledRow) -> LabelledRow:
    return LabelledRow(row.prompt, other.completion, row.desirable)


def _with_tokenizer(folder: Path, base: Path) -> Path:
    load_causal_lm(base, "cpu").tokenizer.save_pretrained(folder)
    return folder


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    _learnt(Path(sys.argv[1]), Path(sys.argv[2]), replace(_HOW, max_steps=1))
