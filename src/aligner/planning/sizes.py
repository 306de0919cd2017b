"""How large a model is, from its configuration and the headers of its files: no weight is read."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from aligner.config import NewModel
from aligner.planning.plain_tokenizer import json_in

_LONGEST_HEADER = 100 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a decoder-only model whose layers are Llama's: attention and a gated feed-forward part."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    tied: bool
    """whether the head is the embedding"""
    stored: int = 0
    """parameters that its files hold, where they could be counted"""

    @property
    def linear(self) -> int:
        """Weights of the linear maps inside the layers: what nearly all of the arithmetic is."""
        attention = 2 * self.width * self.head_size * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.inner)

    @property
    def head(self) -> int:
        """Weights of the map to the vocabulary."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All parameters: as stored, or as a Llama of these sizes has them."""
        norms = (2 * self.layers + 1) * self.width
        return self.stored or self.linear + norms + self.head * (1 if self.tied else 2)

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters at every linear map inside the layers: rank * (in + out) for each."""
        query, key = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = 2 * (self.width + query) + 2 * (self.width + key)
        return self.layers * rank * (attention + 3 * (self.width + self.inner))


def new_shape(new: NewModel, vocabulary: int) -> Shape:
    """The sizes of a model made from nothing."""
    return Shape(
        layers=new.layers,
        width=new.width,
        inner=new.inner,
        heads=new.heads,
        kv_heads=new.heads,
        head_size=new.width // new.heads,
        vocabulary=vocabulary,
        context=new.context,
        tied=True,
    )


def shape_in(folder: Path) -> Shape:
    """The sizes of the model in a folder; raises KeyError, TypeError or ValueError where it does not say them."""
    whole = json_in(folder / "config.json")
    config: dict[str, Any] = {**whole, **whole.get("text_config", {})}
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return Shape(
        layers=int(config["num_hidden_layers"]),
        width=width,
        inner=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or width // heads),
        vocabulary=int(config["vocab_size"]),
        context=int(config.get("max_position_embeddings") or 0),
        tied=bool(config.get("tie_word_embeddings", False)),
        stored=sum(map(_stored, folder.glob("*.safetensors"))),
    )


def _stored(path: Path) -> int:
    """Parameters in a safetensors file: eight bytes of length, then a JSON object of names, types and shapes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"{path}: no safetensors file")
        header = json.loads(file.read(length))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
