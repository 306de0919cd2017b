"""Laws of learning from pairs, on tiny random models."""

import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model

from aligner.config import Lora, PreferenceStage
from aligner.config.bootstrapping import DPOArm
from aligner.models.hf import load_causal_lm
from aligner.records import Triple
from aligner.tasks import refuses
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.adapter import Fit, Progress, prefer
from aligner.training.pairs import EncodedPair, encode_pairs, pairs_of

_HOW = PreferenceStage(batch=4, accumulate=1, epochs=1, learning_rate=1e-3, warmup=0.0)
_TRIPLES = [Triple(f"What is {i} and 1?", f"It is {i}.", f"It is {i + i % 2}.") for i in range(24)]


def _pairs(base: Path, how: PreferenceStage = _HOW) -> list[EncodedPair]:
    tokenizer = load_causal_lm(base, "cpu").tokenizer
    encoder = PromptEncoder(TEMPLATES["sealed"], tokenizer)
    pairs = pairs_of(_TRIPLES, how, seed=0, refuses=refuses, sampled=lambda rows: [[] for _ in rows]).pairs
    return encode_pairs(encoder, tokenizer.eos_token_id, pairs, how, max_length=200, seed=0).pairs


def _preferred(
    base: Path, out: Path, how: PreferenceStage | DPOArm = _HOW, reference: Any = None, **changes: Any
) -> tuple[Path, list[Progress]]:
    """Where the weights lie that come of that base, and what was told."""
    lm, told = load_causal_lm(base, "cpu"), list[Progress]()
    plan = Fit(stage=how, folder=out, seed=0, save_every=4, on_progress=told.append, **changes)
    pairs = _pairs(base, how if isinstance(how, PreferenceStage) else _HOW)
    model = prefer(lm.model, lm.tokenizer, pairs, plan, how, reference)
    assert "forward" not in vars(model)  # what TRL puts there would have a copy use the weights of its original
    model.save_pretrained(out / "model")
    return out / "model" / "model.safetensors", told


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("loss", ["sigmoid", "apo_zero"])
def test_pairs_teach_what_to_prefer(base: Path, tmp_path: Path, loss: Literal["sigmoid", "apo_zero"]) -> None:
    """It begins where the model began, with a margin of zero, learns the pairs, and leaves a plain model behind."""
    weights, told = _preferred(base, tmp_path / "out", replace(_HOW, loss=loss))
    assert told[0].extra["rewards/margins"] == 0
    assert told[0].loss > told[-1].loss > 0
    assert told[-1].extra["rewards/margins"] > 0
    assert told[-1].rows <= len(_pairs(base)) + _HOW.batch
    trained, before = load_file(weights), load_file(base / "model.safetensors")
    assert trained.keys() == before.keys()
    assert any(not torch.equal(trained[name], before[name]) for name in before)


def test_low_rank_adapters_are_merged(base: Path, tmp_path: Path) -> None:
    """The reference is the model without its adapters, so that the margin begins at zero; no adapter is left."""
    how = replace(_HOW, max_steps=3, sft_weight=0.0)
    weights, told = _preferred(base, tmp_path / "out", how, lora=Lora(rank=2))
    assert told[0].extra["rewards/margins"] == 0
    assert told[0].loss == pytest.approx(log(2))
    trained, before = load_file(weights), load_file(base / "model.safetensors")
    assert trained.keys() == before.keys()
    assert any(not torch.equal(trained[name], before[name]) for name in before if "q_proj" in name)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_another_model_may_be_the_reference(base: Path, tmp_path: Path, rank: int) -> None:
    """A copy of the model gives what it gives itself; away from another one it begins, and that one stays as it was."""
    how, lora = DPOArm(batch=4, accumulate=1, max_steps=1, warmup=0.0), Lora(rank=rank)
    own, _ = _preferred(base, tmp_path / "own", how, lora=lora)
    copy, _ = _preferred(base, tmp_path / "copy", how, load_causal_lm(base, "cpu").model, lora=lora)
    assert copy.read_bytes() == own.read_bytes()
    first = load_causal_lm(tiny_model(tmp_path / "first", seed=1), "cpu").model
    before = {name: weight.clone() for name, weight in first.state_dict().items()}
    other, told = _preferred(base, tmp_path / "other", how, first, lora=lora)
    assert told[0].extra["rewards/margins"] != 0
    assert other.read_bytes() != own.read_bytes()
    assert "forward" not in vars(first)
    assert all(torch.equal(weight, before[name]) for name, weight in first.state_dict().items())


@pytest.mark.slow
def test_a_reference_that_is_loaded_for_it_is_gone_when_it_learns(base: Path, tmp_path: Path) -> None:
    """What it gives is computed first; it is the same as that of a model which is handed in."""
    how, alive = DPOArm(batch=4, accumulate=1, max_steps=2, warmup=0.0), list[bool]()
    first, loaded = tiny_model(tmp_path / "first", seed=1), list[weakref.ref[Any]]()

    def load() -> Any:
        model = load_causal_lm(first, "cpu").model
        loaded.append(weakref.ref(model))
        return model

    def look(*_: object) -> None:
        gc.collect()
        alive.append(loaded[0]() is not None)

    there, _ = _preferred(base, tmp_path / "there", how, load_causal_lm(first, "cpu").model)
    weights, _ = _preferred(base, tmp_path / "out", how, load, measure_every=1, measure=look)
    assert (len(loaded), alive) == (1, [False, False])
    assert weights.read_bytes() == there.read_bytes()


@pytest.mark.slow
def test_the_plain_loss_keeps_what_is_chosen_likely(base: Path, tmp_path: Path) -> None:
    """Without the plain loss on what is chosen it becomes less likely, while it is preferred; with it, more likely."""
    how = replace(_HOW, accumulate=2, epochs=6, learning_rate=3e-3)
    for weight, is_lower in ((0.0, True), (1.0, False)):
        _, told = _preferred(base, tmp_path / f"{weight}", replace(how, sft_weight=weight))
        first, last = told[0].extra, told[-1].extra
        assert last["rewards/margins"] > 0.5
        assert (last["logps/chosen"] < first["logps/chosen"]) == is_lower


@pytest.mark.slow
def test_kills_change_nothing(base: Path, tmp_path: Path) -> None:
    """Killed in the middle, also with its newest checkpoint torn, the same call ends with the same bytes."""
    undisturbed, _ = _preferred(base, tmp_path / "undisturbed", _LONG)
    for torn in (False, True):
        out = tmp_path / f"killed-{torn}"
        newest = _killed(base, out)
        if torn:
            (newest / "model.safetensors").write_bytes(b"torn")
        weights, _ = _preferred(base, out, _LONG)
        assert weights.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_processes_share_a_step(base: Path, tmp_path: Path) -> None:
    """Two processes with half of the batches of a step each learn the same as one with all of them."""
    how = replace(_HOW, accumulate=2)
    one, told = _preferred(base, tmp_path / "one", how)
    told_of_two = _in_two_processes(base, tmp_path / "two")
    two = tmp_path / "two" / "model" / "model.safetensors"
    assert told_of_two == pytest.approx([progress.loss for progress in told], rel=1e-4)
    trained, other = load_file(one), load_file(two)
    assert all(torch.allclose(trained[name], other[name], atol=1e-5) for name in trained)


_LONG = replace(_HOW, epochs=4)


def _killed(base: Path, out: Path) -> Path:
    """Run it as a program, kill it behind its second checkpoint, and give the newest whole one."""
    command = [sys.executable, __file__, str(base), str(out), "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=_environment())
    while process.poll() is None and len(list(out.glob("checkpoint-*/COMPLETE"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return max(out.glob("checkpoint-*/COMPLETE"), key=lambda path: path.stat().st_mtime_ns).parent


def _in_two_processes(base: Path, out: Path) -> list[float]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", __file__, str(base), str(out), "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in (out / "losses").read_text().split()]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _main(arguments: Sequence[str]) -> None:
    base, out, accumulate = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    how = _LONG if accumulate == 1 else replace(_HOW, accumulate=accumulate)
    _, told = _preferred(base, out, how)
    if told:
        (out / "losses").write_text("\n".join(str(progress.loss) for progress in told))


if __name__ == "__main__":
    _main(sys.argv[1:])
