"""Whether rows that are laid behind one another see each other: that depends on the model, so it is tried."""

import inspect
from typing import Any

import torch

from aligner.errors import MisuseError

_LONG, _SHORT = 7, 5


def check_packing(model: Any) -> None:
    """Raises MisuseError for a model in which a packed row is not read as it would be alone."""
    was_training = model.training
    model.eval()
    apart = "position_ids" in inspect.signature(model.forward).parameters and keeps_apart(model)
    model.train(was_training)
    if not apart:
        raise MisuseError(f"packing: rows behind one another see each other in {type(model).__name__}; set it to off")


@torch.no_grad()
def keeps_apart(model: Any) -> bool:
    """Whether what stands before a row on its line changes nothing, and its positions begin anew."""
    size = model.get_input_embeddings().num_embeddings
    first, other, second = (torch.arange(start, start + n) % size for start, n in ((1, _LONG), (9, _LONG), (3, _SHORT)))
    positions = torch.cat([torch.arange(_LONG), torch.arange(_SHORT)])[None].to(model.device)

    def behind(row: torch.Tensor) -> torch.Tensor:
        ids = torch.cat([row, second])[None].to(model.device)
        return model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, _LONG:]

    alone = model(input_ids=second[None].to(model.device), use_cache=False).logits[0]
    near = 1e-3 if alone.dtype == torch.float32 else 5e-2
    return torch.equal(behind(first), behind(other)) and torch.allclose(behind(first), alone, rtol=near, atol=near)
