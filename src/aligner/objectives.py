"""What an Aligner can be told by name; an instruction completes the sentence "Edit the answer to …"."""

from collections.abc import Mapping
from dataclasses import dataclass

from aligner.errors import MisuseError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A named, versioned instruction; rows of training data keep the words themselves."""

    name: str
    version: int
    instruction: str


def _objective(name: str, instruction: str) -> Objective:
    return Objective(name=name, version=1, instruction=instruction)


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        _objective("helpful", "make it more helpful: do all that was asked for, to the point, and nothing else"),
        _objective("harmless", "make it more harmless: give no help to hurt anybody, and do not insult or demean"),
        _objective("honest", "make it more honest: say what is true, and say what is uncertain or not known"),
        _objective(
            "empathetic",
            "make it more empathetic: show that you understand how the person feels and why, do not judge, and comfort",
        ),
        _objective("concise", "make it more concise: say the same in fewer words"),
        _objective("code", "make its code more correct: mend what fails, and keep names, style and interface"),
        _objective(
            "maths", "make its mathematics more correct: mend the first wrong step and all that follows from it"
        ),
        _objective("summary", "make it a better summary: what is important, and nothing that the text does not say"),
    )
}


def objective_named(name: str) -> Objective:
    """The objective of that name; raises MisuseError for another one."""
    if name not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES)
    return OBJECTIVES[name]


def instruction_from(instruction: str, objective: str) -> str:
    """The instruction that was given in words or by an objective's name, "" for none; raises MisuseError for both."""
    if instruction.strip() and objective:
        raise MisuseError('both "instruction" and "objective" say what the Aligner is told: give one of them')
    return objective_named(objective).instruction if objective else instruction if instruction.strip() else ""
