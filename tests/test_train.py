"""Laws of training, on tiny random models of real families."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import load_file
from tiny import Family, tiny_model
from transformers import AutoModelForCausalLM

from aligner.config import CopyingStage, CorrectionStage, IdentityStage, Lora, NewModel, Optimisation, TrainConfig
from aligner.correct import Aligner
from aligner.data.fields import row_of
from aligner.errors import AlignerError, CheckpointError, MisuseError
from aligner.files import write_rows
from aligner.models.hf import CausalLM, load_causal_lm
from aligner.records import Message, Triple
from aligner.templates import TEMPLATES, PromptEncoder
from aligner.train import train
from aligner.training.adapter import Fit, Progress, fit
from aligner.training.card import Card, weights_hash
from aligner.training.encode import EncodedRow, encode_rows

_TRIPLES = [Triple(f"What is {i} and 1?", f"It is {i}.", f"It is {i + i % 2}.") for i in range(24)]
_SHORT: dict[str, Any] = {"batch": 4, "accumulate": 1, "max_steps": 2, "learning_rate": 1e-3}
_CHAT = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Who are you?"))


@pytest.fixture
def triples(tmp_path: Path) -> Path:
    path = tmp_path / "triples.jsonl"
    write_rows(path, map(row_of, _TRIPLES))
    return path


def _config(source: Path, base: str = "new", **changes: Any) -> TrainConfig:
    config = TrainConfig(
        triples=source,
        out=source.parent / "run",
        base=base,
        new=NewModel(layers=1, width=16, heads=2, inner=32, vocabulary=300, context=128),
        held_out=4,
        copying=CopyingStage(**_SHORT, rows=8),
        identity=IdentityStage(**_SHORT),
        correction=CorrectionStage(**_SHORT),
        device="cpu",
        save_every=1,
    )
    return replace(config, **changes)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_any_family_trains_saves_loads_and_corrects(triples: Path, family: Family) -> None:
    """Two steps a stage change the weights, and what is saved is a plain model that corrects, chats included."""
    base = tiny_model(triples.parent / "base", family)
    checkpoint = train(_config(triples, str(base)))
    trained, before = (load_file(folder / "model.safetensors") for folder in (checkpoint, base))
    assert trained.keys() == before.keys()
    assert any(not torch.equal(trained[name], before[name]) for name in before)
    assert type(AutoModelForCausalLM.from_pretrained(checkpoint)).__name__.lower().startswith(family)
    assert Card.load(checkpoint).training["base"] == "base"  # no folder of this machine
    aligner = Aligner.from_pretrained(str(checkpoint), device="cpu")
    for question in ("What is 3 and 1?", _CHAT):
        correction = aligner.correct(question, "It is 5.")
        assert correction.exchange.answer == "It is 5."
        assert correction.text
        assert correction == aligner.correct(question, "It is 5.")


def test_the_card_says_how_the_checkpoint_came_to_be(triples: Path) -> None:
    """aligner.json holds the template, the data's hash, the settings, the stages, and the rates on held-out rows."""
    config = _config(triples)
    checkpoint = train(config)
    card = Card.load(checkpoint)
    assert card.template == TEMPLATES["sealed"].told("", learns=False)
    assert card.weights == weights_hash(checkpoint)
    assert card.data["rows"] == len(_TRIPLES)
    assert set(card.measured) >= {"by", "held_out", "copied", "corrected_exactly", "fix_rate", "break_rate"}
    assert card.training["correction"]["max_steps"] == 2
    assert [stage["stage"] for stage in card.stages] == ["copying", "identity", "correction"]
    assert [stage["parent"] for stage in card.stages[1:]] == [stage["key"] for stage in card.stages[:-1]]
    assert [stage["steps"] for stage in card.stages] == [2, 2, 2]
    assert str(triples.parent) not in (checkpoint / "aligner.json").read_text()
    metrics = [orjson.loads(line) for line in (config.out / "metrics.jsonl").read_bytes().splitlines()]
    assert all(set(row) >= {"stage", "step", "rows", "tokens", "loss", "tokens_per_second"} for row in metrics)


@pytest.mark.slow
def test_the_same_settings_give_the_same_weights(triples: Path) -> None:
    """Two runs of the same configuration make equal checkpoints, and another seed makes another."""
    first = train(_config(triples, out=triples.parent / "first"))
    second = train(_config(triples, out=triples.parent / "second"))
    other = train(_config(triples, out=triples.parent / "other", seed=7))
    assert (first / "aligner.json").read_bytes() == (second / "aligner.json").read_bytes()
    assert weights_hash(first) == weights_hash(second) != weights_hash(other)


def test_a_finished_run_is_left_alone(triples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again does no work, and other settings or other data in the same folder are refused."""
    checkpoint = train(_config(triples))
    before = {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()}
    assert train(_config(triples)) == checkpoint
    assert "finished already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in checkpoint.iterdir()} == before
    with pytest.raises(MisuseError, match=r"seed = 43.*choose another --out"):
        train(_config(triples, seed=43))
    write_rows(triples, map(row_of, _TRIPLES[1:]))
    with pytest.raises(MisuseError, match="holds another run"):
        train(_config(triples))


def test_lora_is_merged_into_a_plain_checkpoint(triples: Path) -> None:
    """Low-rank training leaves no adapter behind, only changed weights of the base's own names."""
    base = tiny_model(triples.parent / "base")
    checkpoint = train(_config(triples, str(base), lora=Lora(rank=2)))
    trained, before = (load_file(folder / "model.safetensors") for folder in (checkpoint, base))
    assert trained.keys() == before.keys()
    assert not list(checkpoint.glob("adapter*"))
    assert any(not torch.equal(trained[name], before[name]) for name in before if "q_proj" in name)
    assert Aligner.from_pretrained(str(checkpoint), device="cpu").correct("What?", "It is 5.").text


def test_copying_stops_when_held_out_answers_are_copied(triples: Path) -> None:
    """The warm-up ends at the first look that finds enough copies, and the steps that are left are not made."""
    stage = IdentityStage(batch=4, accumulate=1, epochs=20, share=1.0, until=0.0, check_every=3)
    config = _config(triples, identity=stage)
    train(config)
    assert not list((config.out / "identity").glob("checkpoint-*"))
    state = [orjson.loads(line) for line in (config.out / "metrics.jsonl").read_bytes().splitlines()]
    assert all(row["step"] <= 3 for row in state if row["stage"] == "identity")


def test_rows_that_are_too_long_are_counted_and_named(triples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows left out are told by number and by their question; if none is left, that is an error."""
    write_rows(triples, map(row_of, [*_TRIPLES, Triple("Why so long?", "a " * 300, "b")]))
    train(_config(triples, held_out=2))
    assert '1 rows of more than 128 tokens left out: "Why so long?' in capsys.readouterr().err
    with pytest.raises(MisuseError, match="no tokens to learn from"):
        train(_config(triples, out=triples.parent / "none", max_length=3))


def test_a_masked_sample_is_shown_before_the_first_step(triples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stage begins with one row as the model sees it."""
    train(_config(triples))
    shown = capsys.readouterr().err
    assert "identity, one row" in shown
    assert "correction, one row" in shown
    assert "<|question|>" in shown
    assert "</s>" in shown


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"template": "T9"}, MisuseError, 'unknown template "T9"'),
        ({"template": "seald"}, MisuseError, 'unknown template "seald"; did you mean "sealed"'),
        ({"template": "chat"}, MisuseError, "needs a tokenizer with a chat template"),
        ({"base": "/nowhere"}, MisuseError, "no such directory"),
        ({"held_out": 24}, MisuseError, "too few to hold out"),
        ({"triples": Path("nowhere.jsonl")}, MisuseError, "no such file"),
    ],
)
def test_misuse_is_told_in_one_line(
    triples: Path, changes: dict[str, Any], error: type[AlignerError], said: str
) -> None:
    """What is wrong with a configuration is said with its cure."""
    with pytest.raises(error, match=said) as caught:
        train(_config(triples, **changes))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model_is_refused(triples: Path) -> None:
    """A base without a model in it is an error that names the folder."""
    (triples.parent / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        train(_config(triples, str(triples.parent / "empty")))


def test_bad_rows_are_skipped_into_a_file(triples: Path) -> None:
    """With `skip`, rows that cannot be used are kept beside the run, and the others are learnt."""
    with triples.open("a") as file:
        file.write('{"question": "Who?", "answer": "I"}\n')
    config = _config(triples, on_bad_row="skip")
    assert Card.load(train(config)).data["rows"] == len(_TRIPLES)
    (line,) = (config.out / "triples.skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["problem"] == 'no "correction"'


def _rows(lm: CausalLM) -> list[EncodedRow]:
    encoder = PromptEncoder(TEMPLATES["sealed"], lm.tokenizer)
    return encode_rows(encoder, lm.tokenizer.eos_token_id, _TRIPLES[:16], max_length=128).rows


def _fit(folder: Path, base: Path, stage: Optimisation, losses: list[float] | None = None) -> dict[str, torch.Tensor]:
    lm = load_causal_lm(base, "cpu")
    seen = losses if losses is not None else []
    plan = Fit(stage=stage, folder=folder, seed=1, save_every=1000, on_progress=lambda now: seen.append(now.loss))
    return fit(lm.model, lm.tokenizer, _rows(lm), plan).state_dict()


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    """One batch of eight, two of four and four of two give the same step, though rows differ in length."""
    base = tiny_model(tmp_path / "base")
    results = [
        _fit(tmp_path / str(batch), base, Optimisation(batch=batch, accumulate=8 // batch, max_steps=1, warmup=0.0))
        for batch in (8, 4, 2)
    ]
    for other in results[1:]:
        for name, weight in results[0].items():
            torch.testing.assert_close(other[name], weight, rtol=0, atol=2e-6)


def test_the_loss_is_the_mean_over_unmasked_tokens(tmp_path: Path) -> None:
    """The reported loss of the first step is the negative log-likelihood a token that the model itself gives."""
    base = tiny_model(tmp_path / "base")
    lm = load_causal_lm(base, "cpu")
    total, count = 0.0, 0
    lm.model.requires_grad_(False)
    for row in _rows(lm):
        labels = torch.tensor([row.labels])
        tokens = int((labels[:, 1:] != -100).sum())
        total += float(lm.model(input_ids=torch.tensor([row.ids]), labels=labels).loss) * tokens
        count += tokens
    losses: list[float] = []
    _fit(tmp_path / "fit", base, Optimisation(batch=16, accumulate=1, max_steps=10, learning_rate=1e-30), losses)
    assert losses[0] == pytest.approx(total / count, rel=1e-4)


def test_a_tiny_model_overfits_eight_triples(tmp_path: Path) -> None:
    """The loop learns: eight rows are learnt by heart."""
    base = tiny_model(tmp_path / "base")
    lm = load_causal_lm(base, "cpu")
    losses: list[float] = []
    stage = Optimisation(batch=8, accumulate=1, learning_rate=1e-2, schedule="constant", warmup=0.0)

    def seen(now: Progress) -> None:
        losses.append(now.loss)

    plan = Fit(stage=stage, folder=tmp_path / "fit", seed=1, save_every=1000, on_progress=seen)
    fit(lm.model, lm.tokenizer, _rows(lm)[:8] * 150, plan)
    assert losses[-1] < 0.05
