"""Keys and values of one row: preallocated, with a length; taking tokens back is a smaller number, never a copy."""

import torch

_GROWTH = 1.5


class RowCache:
    """What a model remembers of one row, for each layer keys and values of [heads, capacity, size].

    `length` tokens of it count; what lies behind them is room, and is written over.
    """

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self._capacity = capacity
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def reserve(self, tokens: int) -> None:
        """Make room for so many more tokens; copies only where the guess of the capacity was too low."""
        needed = self.length + tokens
        if needed <= self._capacity:
            return
        self._capacity = max(needed, int(self._capacity * _GROWTH))
        for layer, (keys, values) in self._layers.items():
            self._layers[layer] = (self._grown(keys), self._grown(values))

    def put(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values, [heads, new, size], behind the length; returns views of all, old and new.

        The length stays: a pass writes every layer first, and counts its tokens when they are accepted.
        """
        if layer not in self._layers:
            self._layers[layer] = (self._room(keys), self._room(values))
        all_keys, all_values = self._layers[layer]
        end = self.length + keys.shape[1]
        all_keys[:, self.length : end] = keys
        all_values[:, self.length : end] = values
        return all_keys[:, :end], all_values[:, :end]

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_empty((like.shape[0], self._capacity, like.shape[2]))

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = self._room(old)
        new[:, : self.length] = old[:, : self.length]
        return new
