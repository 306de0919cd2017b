"""Settings that cannot be meant are told in one line, before anything is loaded."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aligner.config import (
    CopyingStage,
    CorrectionStage,
    Gate,
    IdentityStage,
    Lora,
    Measuring,
    NewModel,
    OnPolicyStage,
    PreferenceStage,
    TrainConfig,
    packaged_config,
    read_config,
)
from aligner.errors import MisuseError
from aligner.judge import load_judge
from aligner.planning.checking import JUDGES, check
from aligner.training.launched import is_sharded

_STAGES: dict[str, Any] = {
    "copying": CopyingStage,
    "identity": IdentityStage,
    "correction": CorrectionStage,
    "preference": PreferenceStage,
    "on_policy": OnPolicyStage,
}


@pytest.fixture
def triples(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    path.write_text("{}\n")
    return path


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"identity": IdentityStage(batch=0)}, "--identity.batch is 0; it must be at least 1"),
        ({"correction": CorrectionStage(accumulate=0)}, "--correction.accumulate is 0; it must be at least 1"),
        ({"copying": CopyingStage(epochs=-1)}, "--copying.epochs is -1; it must be at least 0"),
        ({"on_policy": OnPolicyStage(max_steps=-2)}, "--on-policy.max-steps is -2; it must be at least 0"),
        ({"correction": CorrectionStage(learning_rate=0)}, "--correction.learning-rate is 0; it must be more than 0"),
        ({"correction": CorrectionStage(epochs=float("nan"))}, "--correction.epochs is nan; it must be at least 0"),
        ({"correction": CorrectionStage(warmup=1.5)}, "--correction.warmup is 1.5; it must be from 0 to 1"),
        ({"identity": IdentityStage(betas=(0.9, 1.0))}, "--identity.betas: (0.9, 1.0) are not both"),
        ({"identity": IdentityStage(share=-0.1)}, "--identity.share is -0.1; it must be from 0 to 1"),
        ({"identity": IdentityStage(until=98)}, "--identity.until is 98; it must be from 0 to 1"),
        ({"correction": CorrectionStage(mask_source=2)}, "--correction.mask-source is 2; it must be from 0 to 1"),
        ({"correction": CorrectionStage(edit_weight=-1)}, "--correction.edit-weight is -1; it must be at least 0"),
        ({"correction": CorrectionStage(edit_weight=0, copy_weight=0)}, "nothing would be learnt"),
        ({"correction": CorrectionStage(random_share=-1)}, "--correction.random-share is -1; it must be at least 0"),
        ({"preference": PreferenceStage(epochs=1, rejected=())}, "--preference.epochs asks for pairs"),
        ({"preference": PreferenceStage(epochs=1, share=0)}, "--preference.epochs asks for pairs"),
        ({"preference": PreferenceStage(beta=0)}, "--preference.beta is 0; it must be more than 0"),
        ({"on_policy": OnPolicyStage(rounds=1, share=0)}, "--on-policy.rounds asks for samples"),
        ({"on_policy": OnPolicyStage(samples=0)}, "--on-policy.samples is 0; it must be at least 1"),
        ({"on_policy": OnPolicyStage(temperature=0)}, "all samples would be the same"),
        ({"on_policy": OnPolicyStage(judge="exactt")}, 'unknown --on-policy.judge "exactt"; did you mean "exact"?'),
        ({"on_policy": OnPolicyStage(judge="wrld:")}, 'unknown --on-policy.judge "wrld"; did you mean "world"?'),
        ({"measure": Measuring(by="wolrd")}, 'unknown --measure.by "wolrd"; did you mean "world"?'),
        ({"measure": Measuring(keep="best", every=10), "held_out": 0}, "--measure.keep best needs"),
        ({"measure": Measuring(keep="best")}, "--measure.keep best needs --measure.every"),
        ({"gate": Gate(wanted=1.5)}, "--gate.wanted is 1.5; it must be more than 0 and less than 1"),
        ({"gate": Gate(wanted=0)}, "--gate.wanted is 0; it must be more than 0 and less than 1"),
        ({"gate": Gate(wanted=1)}, "--gate.wanted is 1; it must be more than 0 and less than 1"),
        ({"lora": Lora(bits=4)}, "--lora.bits 4 holds frozen weights, but without --lora.rank none are frozen"),
        ({"lora": Lora(bits=4, rank=8), "device": "cpu"}, "--lora.bits 4 needs a GPU"),
        ({"lora": Lora(dropout=1)}, "--lora.dropout is 1"),
        ({"template": "seeled"}, 'unknown template "seeled"; did you mean "sealed"?'),
        ({"new": NewModel(width=100, heads=3)}, "it must be a multiple of twice --new.heads, 6"),
        ({"new": NewModel(layers=0)}, "--new.layers is 0; it must be at least 1"),
        ({"base": "./none"}, "--base ./none: no such directory"),
        ({"held_out": -1}, "--held-out is -1; it must be at least 0"),
        ({"max_length": 0}, "--max-length is 0; it must be at least 1"),
        ({"save_every": 0}, "--save-every is 0; it must be at least 1"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"identity": IdentityStage(share=0), "correction": CorrectionStage(epochs=0)}, "nothing to do"),
        ({"identity": IdentityStage(epochs=0), "correction": CorrectionStage(epochs=0)}, "nothing to do"),
        ({"triples": None}, "nothing to learn from: give --triples, --feedback or both"),
        ({"votes": 2}, "choose among feedback"),
        ({"triples": Path("none.jsonl")}, "none.jsonl: no such file"),
        ({"triples": Path("/")}, "/: is a folder, not a file"),
    ],
)
def test_what_cannot_be_meant_is_refused(triples: Path, settings: dict[str, Any], problem: str) -> None:
    """Each is one line that names the flag, its value, and what it would have to be."""
    config = replace(TrainConfig(triples=triples, out=triples.parent / "run"), **settings)
    with pytest.raises(MisuseError) as caught:
        check(config)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


def test_processes_share_the_batches_of_a_step_evenly(triples: Path) -> None:
    """What cannot be shared out is refused before any process waits for another."""
    stages = {name: kind(accumulate=6) for name, kind in _STAGES.items()}
    config = TrainConfig(triples=triples, out=triples.parent / "run", **stages)
    with pytest.raises(MisuseError, match=r"--identity.accumulate is 6; 4 processes share it"):
        check(config, processes=4)
    check(config, processes=2)
    begun = {"identity": IdentityStage(accumulate=6, epochs=0), "correction": CorrectionStage(accumulate=4)}
    check(replace(config, **begun), processes=4)  # what does not run is not shared out


def test_nobody_looks_at_a_model_that_is_split(triples: Path) -> None:
    """Under FSDP and DeepSpeed what would look at the model is refused before anything is claimed."""
    config = TrainConfig(triples=triples, out=triples.parent / "run")
    with pytest.raises(MisuseError, match=r"^--identity.check-every must be 0 under FSDP and DeepSpeed"):
        check(config, sharded=True)
    with pytest.raises(MisuseError, match=r"^--identity.check-every and --measure.every must be 0"):
        check(replace(config, measure=Measuring(every=10)), sharded=True)
    check(replace(config, identity=IdentityStage(check_every=0)), sharded=True)
    check(replace(config, identity=IdentityStage(share=0)), sharded=True)
    assert not config.out.exists()


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_accelerate_says_whether_a_model_is_split(triples: Path, kind: str) -> None:
    """The whole command refuses in the environment that `accelerate launch` makes, and leaves nothing."""
    environ = {f"ACCELERATE_USE_{kind}": "true"}
    assert is_sharded(environ)
    assert not is_sharded({f"ACCELERATE_USE_{kind}": "false"})
    command = [sys.executable, "-m", "aligner", "train", str(triples), "--out", str(triples.parent / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert (done.returncode, done.stdout) == (2, "")
    assert "--identity.check-every must be 0" in done.stderr
    assert not (triples.parent / "run").exists()


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """Its ending is named with those that can be read."""
    path = tmp_path / "t.csv"
    path.touch()
    with pytest.raises(MisuseError, match=r'unknown kind of file ".csv" \(known: .jsonl'):
        check(TrainConfig(triples=path, out=tmp_path / "run"))


@pytest.mark.parametrize("path", sorted(packaged_config("demo").parent.glob("*.toml")), ids=lambda path: path.stem)
def test_what_is_shipped_can_be_meant(triples: Path, path: Path) -> None:
    """No shipped configuration of a training is refused, and neither are the defaults."""
    if not path.stem.startswith(("build", "evaluate", "bootstrap", "weak-to-strong")):
        check(read_config(TrainConfig, path, triples=triples, out=triples.parent / "run"))
    check(TrainConfig(triples=triples, out=triples.parent / "run"))


def test_the_judges_are_those_that_exist() -> None:
    """What the check knows of judges is what loading one knows."""
    with pytest.raises(MisuseError) as caught:
        load_judge("nobody:")
    (known,) = str(caught.value).rpartition("(known: ")[2:]
    assert {name.strip(" :)") for name in known.split(",")} == set(JUDGES)
