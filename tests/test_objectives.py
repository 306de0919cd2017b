"""Laws of objectives: a name is an instruction, and only one of the two is given."""

from dataclasses import fields

import pytest

from aligner.config import CalibrateConfig, CorrectConfig, NamedAligner, ServeConfig, TrainConfig
from aligner.errors import MisuseError
from aligner.objectives import OBJECTIVES, instruction_from, objective_named


def test_objectives_are_known_by_name() -> None:
    """Each has its name, and words that complete the sentence "Edit the answer to …"."""
    for name, objective in OBJECTIVES.items():
        assert objective_named(name) is objective
        assert objective.name == name
        assert objective.instruction.startswith("make it")
        assert instruction_from("", name) == objective.instruction


def test_words_are_taken_as_they_are_and_blank_ones_say_nothing() -> None:
    """Neither is needed, and both are one too many."""
    assert instruction_from(" be brief ", "") == " be brief "
    assert instruction_from("", "") == instruction_from(" \n", "") == ""
    with pytest.raises(MisuseError, match="give one of them"):
        instruction_from("be brief", "concise")


def test_an_unknown_objective_is_told_the_nearest() -> None:
    """A misspelt name is answered with the nearest one, and one of any length in a line."""
    with pytest.raises(MisuseError, match=r'unknown objective "math"; did you mean "maths"\?'):
        instruction_from("", "math")
    with pytest.raises(MisuseError, match="unknown objective") as raised:
        instruction_from("", "math" * 100_000)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("config", [CorrectConfig, CalibrateConfig, TrainConfig, ServeConfig, NamedAligner])
def test_every_command_that_can_be_told_takes_a_name_too(config: type) -> None:
    """Where there is an instruction, there is an objective."""
    assert {"instruction", "objective"} <= {field.name for field in fields(config)}
