"""Who takes part in the studies of bootstrapping in the closed world, made from nothing and kept.

Upstreams are language models that have learnt the flawed answers of eleven simulated ones. The judge is a reward model
that has learnt from flawed answers and their corrections; the oracle of the world takes no part in that, so that what
decides is not what marks.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from aligner.bootstrapping.encoding import answer_rows, preference_pairs
from aligner.bootstrapping.nouns import Pair
from aligner.config import Optimisation
from aligner.config.bootstrapping import RewardStage
from aligner.correcting.writers import shipped
from aligner.jobs import Tick, progress
from aligner.models.hf import load_causal_lm
from aligner.training.adapter import Fit, Progress, fit, fit_reward
from aligner.training.encode import grouped_by_length
from aligner.training.new_model import new_tokenizer
from aligner.training.run import publish
from aligner.world.rows import Row, training_rows

_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_CONTEXT = 256
"""tokens"""


class Shape(NamedTuple):
    """How large an upstream is, and how much it learns."""

    layers: int
    width: int
    heads: int
    inner: int
    rows: int
    learning_rate: float


SMALL = Shape(layers=4, width=128, heads=4, inner=320, rows=100_000, learning_rate=3e-3)
"""about a million parameters"""
LARGE = Shape(layers=6, width=192, heads=6, inner=512, rows=70_000, learning_rate=2e-3)
"""about three million"""


def make_upstream(folder: Path, shape: Shape, *, seed: int) -> Path:
    """A model that answers as the upstreams seen in training do, at their rates of flaws; one that is there is kept."""
    made = folder / "model"
    if made.exists():
        return made
    rows = list(training_rows(count=shape.rows, seed=1000 + seed))
    tokenizer = _tokenizer(rows)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(_llama(shape, tokenizer))
    how = Optimisation(learning_rate=shape.learning_rate, batch=32, accumulate=1, epochs=1, betas=(0.9, 0.99))
    pairs = [Pair(row.asked.text, row.answer, None) for row in rows]
    encoded = answer_rows(tokenizer, pairs, max_length=_CONTEXT).rows
    Random(seed).shuffle(encoded)
    with progress(f"upstream {seed}", total=len(encoded)) as tick:
        plan = Fit(stage=how, folder=folder, seed=seed, save_every=500, on_progress=_reporter(tick))
        model = fit(model, tokenizer, grouped_by_length(encoded, batch=how.batch, seed=seed), plan)
    _publish(made, model, tokenizer)
    return made


def make_judge(folder: Path, *, rows: int = 24_000) -> Path:
    """A reward model that prefers corrections to flawed answers; one that is there is kept."""
    made = folder / "model"
    if made.exists():
        return made
    lm = load_causal_lm(shipped("upstream"), "cpu")
    flawed = [row for row in training_rows(count=2 * rows, seed=77) if row.answer != row.correction][:rows]
    pairs = [Pair(row.asked.text, row.correction, row.answer) for row in flawed]
    how = RewardStage(learning_rate=5e-4, batch=32, accumulate=1, epochs=1, betas=(0.9, 0.99))
    encoded = grouped_by_length(
        preference_pairs(lm.tokenizer, pairs, max_length=_CONTEXT).pairs, batch=how.batch, seed=0
    )
    with progress("judge", total=len(encoded)) as tick:
        plan = Fit(stage=how, folder=folder, seed=0, save_every=200, on_progress=_reporter(tick))
        model = fit_reward(lm.model, lm.tokenizer, encoded, plan, how)
    _publish(made, model, lm.tokenizer)
    return made


def _reporter(tick: Tick) -> Callable[[Progress], None]:
    seen = 0

    def report(now: Progress) -> None:
        nonlocal seen
        tick(now.rows - seen, f"loss {now.loss:.3f}, {now.tokens_per_second:,.0f} tokens/s")
        seen = now.rows

    return report


def _publish(folder: Path, model: Any, tokenizer: Any) -> None:
    def write(place: Path) -> None:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)

    publish(folder, write)


def _tokenizer(rows: Iterable[Row]) -> Any:
    texts = (text for row in rows for text in (row.asked.text, row.answer))
    tokenizer = new_tokenizer(texts, _ROLES, vocabulary=1640, context=_CONTEXT)
    tokenizer.chat_template = (shipped("upstream") / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def _llama(shape: Shape, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        initializer_range=shape.width**-0.5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
