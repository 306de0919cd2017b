"""Laws of how likely a model finds texts."""

from copy import deepcopy
from functools import cache
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Family, tiny_model

from aligner.bootstrapping.likelihood import Likelihood, divergence, log_likelihoods, mean_gap, token_mean
from aligner.models.hf import load_causal_lm
from aligner.training.encode import EncodedRow

_ROWS = [
    EncodedRow((5, 9, 11, 40, 41, 42, 2), 3),
    EncodedRow((5, 2), 1),
    EncodedRow((7, 7, 7, 8, 30, 2), 4),
    EncodedRow(tuple(range(10, 60)), 20),
    EncodedRow((5, 6, 7), 3),
]


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_likelihoods_are_what_the_model_itself_says(tmp_path: Path, family: Family) -> None:
    """Row by row the sum is that of the model's own loss; what is not learnt counts nothing, and nothing is changed."""
    model = load_causal_lm(tiny_model(tmp_path, family), "cpu").model.double().train()
    found = log_likelihoods(model, _ROWS)
    assert model.training
    model.eval()
    assert [one.tokens for one in found] == [4, 1, 2, 30, 0]
    assert found[-1] == Likelihood(0.0, 0)
    for row, one in zip(_ROWS[:-1], found, strict=False):
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        assert one.sum / one.tokens == pytest.approx(-float(loss), rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.permutations(_ROWS), st.integers(1, 6))
def test_likelihoods_do_not_depend_on_the_batch(rows: list[EncodedRow], batch: int) -> None:
    """Whatever is read together and in whatever order, each row has its own figure."""
    alone = {row: log_likelihoods(_model(), [row])[0] for row in _ROWS}
    for row, one in zip(rows, log_likelihoods(_model(), rows, batch=batch), strict=True):
        assert one.tokens == alone[row].tokens
        assert one.sum == pytest.approx(alone[row].sum, rel=1e-9)


def test_a_model_does_not_diverge_from_itself() -> None:
    """The divergence of a model from itself is exactly none, and so is its interval."""
    assert divergence(_model(), deepcopy(_model()), _ROWS) == (0.0, 0.0, 0.0)


def test_a_model_that_moved_diverges_by_what_its_probabilities_say() -> None:
    """On texts that it drew, a moved model diverges certainly, and by its exact divergence, within chance."""
    first, moved = _model(), deepcopy(_model())
    drawn = torch.tensor([[5, 9, 11]] * 300)
    exact = list[float]()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in moved.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        for _ in range(8):
            ours, theirs = (one(drawn).logits[:, -1].log_softmax(-1) for one in (moved, first))
            exact.append(float((ours.exp() * (ours - theirs)).sum(-1).mean()))
            drawn = torch.cat([drawn, torch.multinomial(ours.exp(), 1)], dim=1)
    found = divergence(moved, first, [EncodedRow(tuple(ids), 3) for ids in drawn.tolist()])
    assert 0 < found.low < sum(exact) / len(exact) < found.high


def test_long_rows_weigh_by_their_tokens() -> None:
    """A mean is one over tokens, not over rows; without rows it is not a number."""
    ours, theirs = [Likelihood(-1.0, 1), Likelihood(-27.0, 9)], [Likelihood(-2.0, 1), Likelihood(-45.0, 9)]
    assert token_mean(ours) == -2.8
    assert mean_gap(ours, theirs).value == pytest.approx(1.9)
    assert mean_gap(theirs, ours).value == pytest.approx(-1.9)
    assert isnan(token_mean([]))
    assert all(map(isnan, divergence(_model(), _model(), [])))


@cache
def _model() -> Any:
    with TemporaryDirectory() as folder:
        return load_causal_lm(tiny_model(Path(folder)), "cpu").model.double()
