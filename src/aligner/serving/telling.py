"""What a request says that its Aligner is told, where the operator lets it say so."""

from collections.abc import Mapping

from aligner.config import Telling
from aligner.errors import MisuseError
from aligner.objectives import OBJECTIVES, instruction_from
from aligner.serving.upstream import Headers
from aligner.serving.wire import WireError

HEADER = "x-aligner-objective"
_SHOWN = 80
"""characters that are repeated of a name that is not known"""


def instruction_in(fields: Mapping[str, object], headers: Headers, allowed: Telling, *, takes: bool) -> str:
    """The instruction in `instruction`, or by name in `objective` or the header; "" where nothing is said.

    Raises WireError, 400, for what is not allowed, no text or no objective, where both are given, and where the
    Aligner takes none.
    """
    said = {"instruction": fields.get("instruction"), "objective": dict(headers).get(HEADER) or fields.get("objective")}
    for name, value in said.items():
        if not isinstance(value, str | None):
            raise WireError(400, f'"{name}" is no text', "wrong_type", param=name)
    instruction, objective = (str(value or "") for value in said.values())
    if (instruction or objective) and not takes:
        raise WireError(400, "this Aligner takes no instruction", "instruction_not_taken")
    if (instruction and allowed != "any") or (objective and allowed == "no"):
        message = "a request may not say here what the Aligner is told"
        raise WireError(400, message, "instruction_not_allowed", param="instruction" if instruction else "objective")
    if objective and objective not in OBJECTIVES:
        # Whoever asks decides how long it is, so nothing is compared with it, and little of it repeated.
        message = f'unknown objective "{objective[:_SHOWN]}" (known: {", ".join(sorted(OBJECTIVES))})'
        raise WireError(400, message, "wrong_value", param="objective")
    try:
        return instruction_from(instruction, objective)
    except MisuseError as error:
        raise WireError(400, str(error), "wrong_value", param="objective") from None
