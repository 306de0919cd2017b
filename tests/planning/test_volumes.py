"""What a plan counts is what training then reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoTokenizer

from aligner.config import (
    CopyingStage,
    CorrectionStage,
    IdentityStage,
    NewModel,
    OnPolicyStage,
    PreferenceStage,
    TrainConfig,
)
from aligner.data.identity import copied_corrections, identity_rows
from aligner.data.splits import hold_out
from aligner.planning.lengths import SAMPLE, measure_with, rows_of
from aligner.planning.machine import Machine
from aligner.planning.plain_tokenizer import PlainTokenizer, tokenizer_in
from aligner.planning.plan import plan_of
from aligner.records import Triple
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.training.adapter import Fit, Progress, fit
from aligner.training.encode import EncodedRow, encode_rows, shuffled
from aligner.training.new_model import new_model
from aligner.training.random_copies import LONGEST, plain_vocabulary, random_copies
from aligner.training.stages import stages_of
from aligner.world.rows import training_rows

_WORLD = [row.triple for row in training_rows(count=600, seed=0)]
_MACHINE = Machine(memory=2**36, disk=2**40)
_CHAT = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}{{ eos_token }}"
_RICH_CHAT = """{% for m in messages %}
  {% if loop.index > 9 %}{% break %}{% endif %}
  {% generation %}{{ m['role'] }} {{ m | tojson }} {{ m['content'] }}{% endgeneration %}

{% endfor %}{{ strftime_now('%Y') }}"""


def _config(**changes: Any) -> TrainConfig:
    config = TrainConfig(
        out=Path("none"),
        new=NewModel(layers=1, width=16, heads=2, inner=32, vocabulary=400, context=128),
        held_out=50,
        copying=CopyingStage(rows=100, batch=8, accumulate=1),
        identity=IdentityStage(share=0.3, batch=8, accumulate=2, epochs=2),
        correction=CorrectionStage(random_share=0.1, identity_share=0.2, batch=8, accumulate=1, epochs=1),
    )
    return replace(config, **changes)


def _read(config: TrainConfig) -> dict[str, list[EncodedRow]]:
    """The rows of each stage as training encodes them, with the tokenizer that it makes."""
    training, _ = hold_out(_WORLD, config.held_out, seed=config.seed)
    tokenizer: Any = new_model(config.new, TEMPLATES[config.template], training, seed=config.seed)[1]
    encoder, eos = PromptEncoder(TEMPLATES[config.template], tokenizer), tokenizer.eos_token_id
    vocabulary, seed = plain_vocabulary(encoder, len(tokenizer)), config.seed

    def encoded(triples: list[Triple]) -> list[EncodedRow]:
        return encode_rows(encoder, eos, triples, max_length=config.new.context).rows

    copies = copied_corrections(training, share=config.correction.identity_share, seed=seed)
    rows = encoded([*training, *copies])
    count = round(config.correction.random_share * len(rows))
    rows += random_copies(encoder, eos, vocabulary, count=count, seed=seed + 1, shortest=LONGEST)
    answers = encoded(identity_rows(training, share=config.identity.share, seed=seed))
    return {
        "copying": random_copies(encoder, eos, vocabulary, count=config.copying.rows, seed=seed),
        "identity": shuffled(answers, epochs=config.identity.epochs, seed=seed),
        "correction": shuffled(rows, epochs=config.correction.epochs, seed=seed),
    }


def test_rows_and_tokens_are_those_that_training_reads() -> None:
    """With the vocabulary that training will learn, no count is an estimate, whatever is too long."""
    config = _config()
    found = plan_of(config, _WORLD, _MACHINE)
    for stage, (name, rows) in zip(found.stages, _read(config).items(), strict=True):
        assert stage.name == name
        assert stage.exact
        assert stage.rows == len(rows)
        assert stage.tokens == sum(len(row.ids) for row in rows)
        assert stage.learnt == sum(len(row.ids) - row.prompt_length for row in rows)
        assert stage.longest.total == max(len(row.ids) for row in rows)
    assert found.stages[2].too_long > 0


def test_a_stage_without_epochs_is_left_out() -> None:
    """Rows alone, or a share, do not make a stage."""
    config = _config(copying=CopyingStage(rows=100, epochs=0), identity=IdentityStage(share=0.3, epochs=0))
    assert [stage.name for stage in plan_of(config, _WORLD, _MACHINE).stages] == ["correction"]
    assert [stage.name for stage in stages_of(config)] == ["correction"]


@pytest.mark.parametrize(("batch", "accumulate", "max_steps"), [(4, 1, 0), (3, 4, 0), (8, 2, 3)])
def test_steps_are_those_of_the_trainer(tmp_path: Path, batch: int, accumulate: int, max_steps: int) -> None:
    """A plan's steps are the trainer's own, for rows that fill the last step and rows that do not."""
    how = CorrectionStage(batch=batch, accumulate=accumulate, max_steps=max_steps, epochs=1)
    config = _config(correction=how, held_out=540)
    (stage,) = [stage for stage in plan_of(config, _WORLD, _MACHINE).stages if stage.name == "correction"]
    seen: list[Progress] = []
    training, _ = hold_out(_WORLD, config.held_out, seed=config.seed)
    model, tokenizer = cast("Any", new_model(config.new, TEMPLATES["sealed"], training, seed=0))
    rows = encode_rows(PromptEncoder(TEMPLATES["sealed"], tokenizer), 2, training, max_length=128).rows
    fit(model, tokenizer, rows, Fit(stage=how, folder=tmp_path, seed=0, save_every=100, on_progress=seen.append))
    assert {progress.steps for progress in seen} == {stage.steps}
    assert stage.rows == (min(len(rows), max_steps * batch * accumulate) if max_steps else len(rows))


def test_many_rows_are_counted_on_a_sample() -> None:
    """The sample's tokens stand for all of them within a few per cent, and the longest row is found in any case."""
    many = [Triple(f"q {i}", "a " * (1 + i % 30), "c " * (1 + i % 40)) for i in range(3 * SAMPLE)]
    many[17] = Triple("q", "a " * 100, "c " * 100)
    measure = measure_with(TEMPLATES["T4"], None, "")
    whole = [measure(row) for row in many]
    rows = rows_of(many, measure, 10**6, seed=0)
    assert not rows.exact
    assert (rows.count, rows.too_long) == (len(many), 0)
    assert rows.tokens == pytest.approx(sum(length.total for length in whole), rel=0.03)
    assert rows.longest.total >= max(length.total for length in whole)
    cut = rows_of(many, measure, 50, seed=0)
    assert cut.too_long == pytest.approx(sum(length.total > 50 for length in whole), rel=0.2)
    assert cut.count + cut.too_long == len(many)


def test_what_comes_out_of_stages_before_is_counted_at_most() -> None:
    """Pairs and samples are bounded by the rows that they are made of, and are said to be so."""
    preference = PreferenceStage(epochs=1, share=0.5, rejected=("original", "needless", "refusal", "sampled"))
    on_policy = OnPolicyStage(rounds=2, share=0.4, samples=3, mix=1.0)
    stages = plan_of(_config(preference=preference, on_policy=on_policy), _WORLD, _MACHINE).stages
    pairs, one, two = stages[-3:]
    assert [stage.name for stage in stages[-3:]] == ["preference", "on-policy-1", "on-policy-2"]
    assert pairs.at_most
    assert one.at_most
    assert (one.rows, one.tokens) == (two.rows, two.tokens)
    assert 0.5 * 550 < pairs.rows <= 4 * 0.5 * 550 + 1
    assert one.rows <= 2 * 0.4 * 550 + 1
    assert one.sampled > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@settings(max_examples=50)
@given(text=st.text() | st.sampled_from(["<|answer|>", "a<s>b", "</s>", "<|user|><|user|>"]))
def test_a_tokenizer_without_transformers_encodes_the_same(folder: Path, text: str) -> None:
    """Every prompt has the same ids, texts that imitate control tokens included."""
    ours, theirs = tokenizer_in(folder), AutoTokenizer.from_pretrained(folder)
    for name in ("sealed", "T4"):
        one, other = (PromptEncoder(TEMPLATES[name], tokenizer) for tokenizer in (ours, theirs))
        assert one.prompt_ids(text, text, text) == other.prompt_ids(text, text, text)
        assert one.text_ids(text) == other.text_ids(text)


@pytest.mark.parametrize("chat", [_CHAT, _RICH_CHAT], ids=["plain", "rich"])
def test_a_chat_template_is_rendered_as_transformers_does(folder: Path, chat: str) -> None:
    """The base model's own format gives the same prompt, with all that such templates may use."""
    theirs: Any = AutoTokenizer.from_pretrained(folder)
    theirs.chat_template = chat
    known = tokenizer_in(folder)
    ours = PlainTokenizer(known.core, {"eos_token": "</s>", "bos_token": "<s>"}, chat_template=chat)
    one, other = (PromptEncoder(TEMPLATES["chat"], tokenizer) for tokenizer in (ours, theirs))
    assert one.prompt_ids("Who?", "Me.") == other.prompt_ids("Who?", "Me.")
    assert torch.tensor(one.prompt_ids("Who?", "Me.")).max() < known.core.get_vocab_size()


def test_a_chat_template_that_only_transformers_renders_is_not_refused(tmp_path: Path) -> None:
    """Its tokens are guessed, which is said."""
    base = tiny_model(tmp_path)
    (base / "chat_template.jinja").write_text("{% unheard_of %}")
    plan = plan_of(_config(base=str(base), template="chat"), _WORLD, _MACHINE)
    assert plan.base.tokenizer is None
    assert "its chat template cannot be rendered" in plan.base.unknown
    assert plan.base.shape is not None
    assert plan.stages[-1].steps > 0
