"""Memory and arithmetic of a training, from formulas.

Training keeps weights, gradients and AdamW's two moments in float32, 16 bytes a parameter (ZeRO, arXiv 1910.02054,
section 3.1). Activations are counted as Korthikanti et al. count them (arXiv 2205.05198, section 4), for a Llama's
layer, whose attention keeps no scores. Arithmetic is 6 operations a weight and token (Kaplan et al., arXiv 2001.08361,
section 2.1), and for attention as in PaLM's appendix B.
"""

from dataclasses import dataclass

from aligner.planning.sizes import Shape
from aligner.planning.volumes import Stage

_FLOAT = 4
_HALF = 2
_MOMENTS = 8
_IN_BACKWARD = 2
"""times what a layer keeps: gradients of all of that, and as much again that is not given back yet, as measured"""
_IN_FOUR_BITS = 4.127 / 8
"""bytes of a weight in four bits with its doubly quantised scales (QLoRA, arXiv 2305.14314, section 3)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the model is trained."""

    on_gpu: bool = False
    rank: int = 0
    """of low-rank adapters; 0 trains all weights"""
    bits: int = 16
    checkpointing: bool = False
    """activations are computed twice in place of being kept"""
    shards: int = 1
    """processes over which weights, gradients and moments are split"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that one process needs at its peak, beyond the program itself."""

    weights: int
    gradients: int
    moments: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """Of all."""
        return self.weights + self.gradients + self.moments + self.activations + self.logits


def trained(shape: Shape, way: Way) -> int:
    """Parameters that learn."""
    return shape.adapters(way.rank) if way.rank else shape.parameters


def memory_of(shape: Shape, stage: Stage, way: Way) -> Memory:
    """The peak of a stage: a batch of its longest rows, with all states there."""
    rows = stage.how.batch * stage.together
    learning = trained(shape, way)
    # Preferences are compared over whole rows; a sharded model that learns them stands beside a copy of itself.
    scored = stage.longest.total if stage.together > 1 else stage.longest.learnt
    copies = 2 if stage.together > 1 and way.shards > 1 and not way.rank else 1
    return Memory(
        weights=copies * _weights(shape, way) // way.shards,
        gradients=_FLOAT * learning // way.shards,
        moments=_MOMENTS * learning // way.shards,
        activations=rows * stage.longest.total * _activations(shape, way),
        logits=rows * scored * _logits(shape, way),
    )


def loaded(shape: Shape, way: Way) -> int:
    """Bytes of the whole model in float32, which each process loads before it is split, unless it is in four bits."""
    return 0 if way.rank and way.bits == 4 else _FLOAT * shape.parameters


def operations(shape: Shape, stage: Stage, way: Way) -> float:
    """Floating-point operations of a stage, forward and backward; what is computed twice counts twice.

    What is sampled is not counted.
    """
    # Frozen weights need no gradients of their own, and what is computed twice needs one more pass.
    times = (4 if way.rank else 6) + (2 if way.checkpointing else 0)
    length = stage.tokens / max(stage.rows * stage.together, 1)
    attention = shape.layers * shape.heads * shape.head_size * length
    # Preferences are weighed against the model as it was: one more pass.
    reference = 2 * shape.linear * stage.tokens if stage.together > 1 else 0
    return times * (stage.tokens * (shape.linear + attention) + stage.learnt * shape.head) + reference


def _weights(shape: Shape, way: Way) -> int:
    whole = _FLOAT * shape.parameters
    if way.rank and way.bits == 4:
        whole = _FLOAT * (shape.parameters - shape.linear) + round(_IN_FOUR_BITS * shape.linear)
    copies = _HALF * shape.linear if way.on_gpu else 0  # bfloat16 computes with copies, which backward needs again
    return whole + copies + (_FLOAT * shape.adapters(way.rank) if way.rank else 0)


def _activations(shape: Shape, way: Way) -> int:
    """Bytes for a token: what every layer keeps, or the inputs of all layers, and what backward needs in one layer."""
    layer = _layer(shape, way)
    kept = _FLOAT * shape.width * shape.layers + layer if way.checkpointing else layer * shape.layers
    return kept + _IN_BACKWARD * layer


def _layer(shape: Shape, way: Way) -> int:
    """What backward needs of one layer.

    In float32: both norms' inputs, what they normalise and what comes out. In the precision of the maps: queries, keys
    and values, the attention's output twice, and four of the feed-forward part: gate, its activation, up, product.
    """
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    shared = 2 * queries if keys < queries else 0  # keys and values are spread over the heads that share them
    mapped = 3 * queries + 2 * keys + shared + 4 * shape.inner
    return 6 * _FLOAT * shape.width + (_HALF if way.on_gpu else _FLOAT) * mapped


def _logits(shape: Shape, way: Way) -> int:
    """Bytes for a token that is learnt: logits, their logarithms of probabilities, and the gradient of each."""
    return (4 * _FLOAT if way.on_gpu else 3 * _FLOAT) * shape.vocabulary
