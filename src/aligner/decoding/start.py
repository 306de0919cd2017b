"""The decoder that a model can have: drafted where its passes can be driven row by row, else its own `generate`."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from aligner.decoding.blocks import BlockPolicy, MeasuredBlocks
from aligner.decoding.costs import costs_of
from aligner.decoding.decoder import Decoder, Request, Step
from aligner.decoding.generating import GeneratingDecoder
from aligner.decoding.packed import PackedModel, packed


class Decodes(Protocol):
    """Turns requests into tokens."""

    def decode(self, requests: Iterable[Request]) -> Iterator[Step]:
        """The steps of all requests, as they come; the last step of each has its end."""
        ...


StartDecoder = Callable[[int], Decodes]
"""from the number of rows decoded at a time to a decoder"""


def measured(model: PackedModel) -> BlockPolicy:
    """Blocks from what passes cost here."""
    return MeasuredBlocks(costs_of(model))


def start_decoder(model: Any, blocks: Callable[[PackedModel], BlockPolicy] = measured) -> StartDecoder:
    """A function that gives decoders of this model; says once, in the log, where drafts cannot help."""
    try:
        driven = packed(model)
    except ValueError as error:
        logging.getLogger("aligner").warning("%s decodes without drafts: %s", type(model).__name__, error)
        return lambda rows: GeneratingDecoder(model, rows)
    policy = blocks(driven)
    return lambda rows: Decoder(driven, policy, rows)
