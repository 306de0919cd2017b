"""One forward pass over rows of any lengths, laid end to end: no padding, and each row reads its own cache.

Any Hugging Face causal language model whose attention goes through transformers' attention interface is driven this
way; `packed` tries it on a few tokens, and says why where it does not work.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from aligner.decoding.cache import RowCache

ATTENTION = "aligner_packed"
_PROBE = 24
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4}
"""of the largest logit; also in float64, as some models compute their softmax in float32 whatever their type"""
_ROPES_THAT_LOOK_AT_THE_LENGTH = ("dynamic", "longrope")

Logits = Callable[[torch.Tensor], torch.Tensor]
"""from numbers of tokens in the pass, [rows], to their logits, [rows, vocabulary]"""


@dataclass(frozen=True, slots=True)
class Segment:
    """The next tokens of one row."""

    cache: RowCache
    tokens: Sequence[int]


@dataclass(slots=True)
class Pack:
    """What the attention of every layer needs to know of a pass."""

    segments: Sequence[Segment]
    bounds: Sequence[int]
    """where the segments begin and end among the tokens of the pass"""
    masks: dict[tuple[int, int, int | None], torch.Tensor] = field(
        default_factory=dict[tuple[int, int, int | None], torch.Tensor]
    )
    windows: dict[int, int | None] = field(default_factory=dict[int, int | None])
    """the sliding window that each layer asked for"""


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A causal language model that takes one pass over several rows."""

    model: Any = field(repr=False)
    head: Any = field(repr=False)
    """the part from hidden states to logits where it stands alone, else None"""

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment], wanted: Sequence[int]) -> Logits:
        """Read the next tokens of some rows; only the logits of `wanted` tokens of the pass can be asked for.

        Keys and values are written behind the length of each cache; the lengths stay.
        """
        return self.read(segments, wanted)[1]

    def read(self, segments: Sequence[Segment], wanted: Sequence[int]) -> tuple[Pack, Logits]:
        """The same, with what the attention of the layers was told and asked for."""
        ids = [token for segment in segments for token in segment.tokens]
        positions = [i for s in segments for i in range(s.cache.length, s.cache.length + len(s.tokens))]
        bounds = [0]
        for segment in segments:
            segment.cache.reserve(len(segment.tokens))
            bounds.append(bounds[-1] + len(segment.tokens))
        pack, device = Pack(segments, bounds), self.model.device
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([ids], device=device),
            "position_ids": torch.tensor([positions], device=device),
            "use_cache": False,
            "pack": pack,
        }
        with _attention(self.model.config.get_text_config(), ATTENTION):
            if self.head is not None:
                hidden = self.model.base_model(**inputs).last_hidden_state[0]
                return pack, lambda rows: self.head(hidden[rows])
            rows = torch.tensor(list(wanted), device=device)
            logits = self.model(**inputs, logits_to_keep=rows).logits[0]
            return pack, lambda asked: logits[torch.searchsorted(rows, asked)]


def packed(model: Any) -> PackedModel:
    """The model as one that takes packed passes; raises ValueError with the reason where it cannot be driven so."""
    AttentionInterface.register(ATTENTION, packed_attention)
    ids = [i % model.get_input_embeddings().num_embeddings for i in range(3, 3 + _PROBE)]
    with torch.inference_mode():
        expected = model(torch.tensor([ids], device=model.device), use_cache=False).logits[0]
    config = model.config.get_text_config()
    _check_positions(config)
    # Small logits pass such a cap unchanged, so that the probe could not tell.
    capped = getattr(config, "final_logit_softcapping", None) is not None
    for head in (None,) if capped else (model.get_output_embeddings(), None):
        tried = PackedModel(model, head)
        try:
            pack, logits = _probe(tried, ids)
        # A model that does not take part fails in ways of its own.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"its attention cannot be driven row by row ({reason})") from error
        if _same(logits, expected):
            _check_layers(config, pack)
            return tried
    raise ValueError("its logits differ when rows are laid end to end")


def packed_attention(  # noqa: PLR0913  # transformers' attention interface
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _: torch.Tensor | None,
    *,
    pack: Pack,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each segment over its own cache; query, key and value are [1, heads, tokens, size].

    Returns [1, tokens, heads, size], as transformers' attention interface asks for.
    """
    layer: int = module.layer_idx
    pack.windows[layer] = sliding_window
    parts: list[torch.Tensor] = []
    for segment, (start, end) in zip(pack.segments, pairwise(pack.bounds), strict=True):
        keys, values = segment.cache.put(layer, key[0, :, start:end], value[0, :, start:end])
        mask = _mask(pack, end - start, keys.shape[1], sliding_window, query.device)
        part = query[:, :, start:end]
        if softcap is None:
            read = _attend(part, keys[None], values[None], mask, scaling)
        else:
            read = _attend_capped(part, keys[None], values[None], mask, scaling, softcap)
        parts.append(read.transpose(1, 2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), None


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    first = mask is None and query.shape[2] > 1
    grouped = query.shape[1] != keys.shape[1]
    return scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, is_causal=first, scale=scaling, enable_gqa=grouped
    )


def _attend_capped(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float,
) -> torch.Tensor:
    """Attention whose scores are squeezed between two bounds before the softmax (Gemma 2, section 2)."""
    times = query.shape[1] // keys.shape[1]
    keys, values = (part.repeat_interleave(times, dim=1) for part in (keys, values))
    scores = query @ keys.transpose(2, 3) * (query.shape[3] ** -0.5 if scaling is None else scaling)
    scores = (scores / softcap).tanh() * softcap
    if mask is None and query.shape[2] > 1:
        mask = _band(query.shape[2], keys.shape[2], None, query.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32 if scores.dtype.itemsize < 4 else None).to(values.dtype) @ values


def _mask(pack: Pack, new: int, length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """The tokens that each new token may read, [new, length], or None where the kernel knows without it."""
    if window is not None and length <= window:
        window = None
    if window is None and new in (1, length):
        return None
    if (new, length, window) not in pack.masks:
        pack.masks[new, length, window] = _band(new, length, window, device)
    return pack.masks[new, length, window]


def _band(new: int, length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Each new token reads itself and those before it, at most `window` in all."""
    allowed = torch.ones(new, length, dtype=torch.bool, device=device).tril(length - new)
    return allowed if window is None else allowed.triu(length - new - window + 1)


@contextmanager
def _attention(config: Any, name: str) -> Generator[None]:
    """The attention of a model's layers while a pass lasts; who else uses the model finds it as it was."""
    before = config._attn_implementation  # noqa: SLF001  # the public setter also reloads kernels
    config._attn_implementation = name  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001


@torch.inference_mode()
def _probe(model: PackedModel, ids: Sequence[int]) -> tuple[Pack, torch.Tensor]:
    """The logits of some tokens, read in pieces beside another row, with wrong tokens read and taken back between."""
    row, other = RowCache(4), RowCache(4)
    third = len(ids) // 3
    parts = [ids[:third], ids[third:-1], ids[-1:]]
    found: list[torch.Tensor] = []
    pack = Pack([], [])
    for part in parts:
        wrong = [Segment(other, ids[:2]), Segment(row, [*reversed(ids)][:4])]
        model.forward(wrong, [0])
        segments = [Segment(other, ids[2:5]), Segment(row, part)]
        wanted = range(3, 3 + len(part))
        pack, logits = model.read(segments, wanted)
        found.append(logits(torch.tensor(list(wanted), device=model.model.device)))
        row.length += len(part)
    return pack, torch.cat(found)


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    near = _TOLERANCE.get(expected.dtype, 5e-2) * float(expected.abs().max())
    return found.shape == expected.shape and float((found - expected).abs().max()) <= near


def _check_layers(config: Any, pack: Pack) -> None:
    """The few tokens of the probe do not reach beyond a sliding window, so what the layers ask for is looked at."""
    if len(pack.windows) != config.num_hidden_layers:
        raise ValueError("not all of its layers use transformers' attention interface")
    expected = {"full_attention": None, "sliding_attention": getattr(config, "sliding_window", None)}
    for layer, kind in enumerate(getattr(config, "layer_types", None) or []):
        if kind not in expected or pack.windows[layer] != expected[kind]:
            raise ValueError(f"its layer {layer} has {kind}, which cannot be driven row by row")


def _check_positions(config: Any) -> None:
    ropes: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    each = [ropes, *(cast("dict[str, Any]", rope) for rope in ropes.values() if isinstance(rope, dict))]
    kinds = [rope.get("rope_type") for rope in each]
    if found := [kind for kind in kinds if kind in _ROPES_THAT_LOOK_AT_THE_LENGTH]:
        raise ValueError(f"its {found[0]} positions depend on the longest row of a pass")
