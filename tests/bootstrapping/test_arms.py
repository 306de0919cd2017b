"""Laws of arms: what cannot be meant is told with the arm and the key, before anything is loaded."""

from typing import Any

import pytest

from aligner.bootstrapping.arms import of_arms
from aligner.config import (
    BootstrapArm,
    DPOArm,
    KTOArm,
    RewardStage,
    RLArm,
    Sampling,
    SFTArm,
    packaged_config,
    read_config,
)
from aligner.config.bootstrapping import BootstrapConfig

STUDIES = ("bootstrap-example", "bootstrap-naive", "bootstrap-study", "bootstrap-ways", "bootstrap-world")


def first(*arms: BootstrapArm, temperature: float = 1.0) -> str:
    """The first thing that is wrong, as one line; "" where nothing is."""
    problem = next(of_arms(arms, Sampling(temperature=temperature)), "")
    assert "\n" not in problem
    return problem


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sft": SFTArm(epochs=0)}, "sft.epochs is 0; it must be more than 0"),
        ({"sft": SFTArm(batch=0)}, "sft.batch is 0; it must be at least 1"),
        ({"sft": SFTArm(accumulate=0)}, "sft.accumulate is 0; it must be at least 1"),
        ({"sft": SFTArm(learning_rate=-1e-6)}, "sft.learning_rate is -1e-06; it must be more than 0"),
        ({"sft": SFTArm(learning_rate=float("nan"))}, "sft.learning_rate is nan; it must be more than 0"),
        ({"sft": SFTArm(max_steps=-1)}, "sft.max_steps is -1; it must be at least 0"),
        ({"sft": SFTArm(betas=(0.9, 1.0))}, "sft.betas: (0.9, 1.0) are not both from 0 to less than 1"),
        ({"way": "dpo", "dpo": DPOArm(beta=0)}, "dpo.beta is 0; it must be more than 0"),
        ({"way": "dpo", "dpo": DPOArm(sft_weight=-1)}, "dpo.sft_weight is -1; it must be at least 0"),
        ({"way": "kto", "kto": KTOArm(batch=1)}, "kto.batch is 1; it must be at least 2"),
        ({"way": "kto", "kto": KTOArm(undesirable_weight=-1)}, "kto.undesirable_weight is -1; it must be at least 0"),
        ({"way": "rloo", "reward": RewardStage(epochs=0)}, "reward.epochs is 0; it must be more than 0"),
        ({"way": "rloo", "rl": RLArm(samples=1)}, "rl.samples = 1: an answer is compared with others"),
        ({"way": "grpo", "rl": RLArm(samples=3)}, "rl.batch = 16: a batch holds all 3 answers"),
        ({"way": "grpo", "rl": RLArm(length_penalty=-1)}, "rl.length_penalty is -1; it must be at least 0"),
        (
            {"dpo": DPOArm(beta=0.2)},
            '[arms.dpo] has settings, but way is "sft", which reads [arms.sft]',
        ),
        (
            {"way": "rloo", "sft": SFTArm(epochs=1)},
            '[arms.sft] has settings, but way is "rloo", which reads [arms.reward] and [arms.rl]',
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_is_told_with_its_arm(settings: dict[str, Any], problem: str) -> None:
    """The arm, the key of its table, what it is and what it would have to be."""
    assert first(BootstrapArm(name="a"), BootstrapArm(name="b", **settings)).startswith(f'arm "b": {problem}')


def test_what_is_compared_must_differ() -> None:
    """Without chance all samples are the same, which matters to ways that sample alone."""
    assert "sampling.temperature = 0" in first(BootstrapArm(name="a", way="rloo"), temperature=0)
    assert not first(BootstrapArm(name="a", way="dpo"), temperature=0)


SHAPELESS = ("", ".a", "a/b", "..", "a b")
TAKEN = ("first", "First", "all", "report.json", "Report.md", "config.toml", "data.toml", "held_out.skipped.jsonl")
AUDITS = ("audit", "audit.jsonl", "audit-1f.jsonl")


@pytest.mark.parametrize("name", [*SHAPELESS, *TAKEN, *AUDITS])
def test_an_arm_is_not_called_like_something_else(name: str) -> None:
    """Its name is that of its folder, beside the files of a study."""
    assert first(BootstrapArm(name=name)).startswith(f'"{name}" cannot be the name of an arm')


def test_arms_have_names_that_differ() -> None:
    """Also where a file system does not know letter case; and there is one at least."""
    assert first(BootstrapArm(name="ẞ"), BootstrapArm(name="ss")) == 'two arms have the name "ss"'
    assert "at least one way of learning" in first()
    assert not first(BootstrapArm(name="a"), BootstrapArm(name="audited.b-2"))


@pytest.mark.parametrize("name", STUDIES)
def test_the_arms_that_come_with_the_package_are_right(name: str) -> None:
    """Nothing is wrong with any of them."""
    config = read_config(BootstrapConfig, packaged_config(name))
    assert not list(of_arms(config.arms, config.sampling))
