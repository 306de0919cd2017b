"""Laws of the choice of a token."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aligner.decoding.sampling import Greedy, gumbel, sampler_of
from aligner.records import SamplingParams

SEEDS = st.integers(0, 2**63 - 1)


def some_logits(tokens: int, vocabulary: int = 30) -> torch.Tensor:
    """The same random logits at every call."""
    return torch.randn(tokens, vocabulary, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@given(seed=SEEDS, position=st.integers(0, 10**6), cut=st.integers(0, 12), temperature=st.floats(0.1, 10))
def test_a_token_depends_on_seed_position_and_logits_alone(
    seed: int, position: int, cut: int, temperature: float
) -> None:
    """Tokens chosen in two blocks, cut anywhere, by two samplers of one seed, are those chosen in one."""
    logits, sampling = some_logits(12), SamplingParams(temperature=temperature, seed=seed)
    whole = sampler_of(sampling).choose(logits, position)
    parts = (
        sampler_of(sampling).choose(part, position + at)
        for part, at in ((logits[:cut], 0), (logits[cut:], cut))
        if len(part)
    )
    assert torch.equal(torch.cat(list(parts)), whole)


def test_at_temperature_zero_the_likeliest_token_is_chosen() -> None:
    """Without noise a choice is the argmax, whatever the seed."""
    sampler = sampler_of(SamplingParams(temperature=0.0, seed=3))
    assert isinstance(sampler, Greedy)
    assert torch.equal(sampler.choose(some_logits(50), 7), some_logits(50).argmax(-1))


@pytest.mark.parametrize(
    "narrow",
    [
        SamplingParams(temperature=5.0, top_k=1),
        SamplingParams(temperature=5.0, top_p=1e-9),
        SamplingParams(temperature=1e-4, seed=5),
    ],
    ids=["top-k", "top-p", "cold"],
)
def test_without_choice_sampling_is_greedy(narrow: SamplingParams) -> None:
    """Keeping only the likeliest token leaves nothing to chance."""
    assert torch.equal(sampler_of(narrow).choose(some_logits(200), 0), some_logits(200).argmax(-1))


def test_the_seed_decides_the_sample() -> None:
    """One seed gives one sample, another one another, no seed a new one, and nobody else's noise is moved."""

    def sample(seed: int | None) -> list[int]:
        return sampler_of(SamplingParams(temperature=1.0, seed=seed)).choose(some_logits(60), 0).tolist()

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(None) != sample(None)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kept", [0, 3], ids=["all", "top-k"])
def test_samples_follow_the_probabilities(kept: int) -> None:
    """Each token that is left comes about as often as its probability says, and no other one."""
    draws, logits = 4000, some_logits(1, 6)
    sampler = sampler_of(SamplingParams(temperature=0.5, top_k=kept, seed=0))
    drawn = sampler.choose(logits.expand(draws, -1), 0).bincount(minlength=6) / draws
    likely, tokens = (logits[0] / 0.5).softmax(-1).topk(kept or 6)
    expected = torch.zeros(6, dtype=torch.float64).scatter(0, tokens, likely / likely.sum())
    assert float((drawn - expected).abs().max()) < 0.03
    assert not drawn[expected == 0].any()


@given(seed=SEEDS, position=st.integers(0, 10**6))
def test_noise_is_keyed_by_seed_and_position(seed: int, position: int) -> None:
    """The same key gives the same noise, and a neighbouring one other noise."""
    noise = gumbel(seed, position, 20)
    assert torch.equal(noise, gumbel(seed, position, 20))
    assert noise.isfinite().all()
    assert not torch.equal(noise, gumbel(seed, position + 1, 20))
    assert not torch.equal(noise, gumbel(seed ^ 1, position, 20))


def test_the_noise_is_standard_gumbel() -> None:
    """Its share below x is exp(-exp(-x))."""
    noise = torch.stack([gumbel(0, position, 100) for position in range(100)])
    for bound in (-1.0, 0.0, 0.5, 1.0, 3.0):
        assert float((noise < bound).double().mean()) == pytest.approx(math.exp(-math.exp(-bound)), abs=0.02)
