"""Laws of reward models that are learnt from pairs, on tiny models."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, nan
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model
from transformers import CohereConfig, GraniteConfig, LlamaConfig, Qwen3Config

from aligner.bootstrapping.encoding import preference_pairs
from aligner.bootstrapping.nouns import Pair
from aligner.config import Lora
from aligner.config.bootstrapping import RewardStage
from aligner.errors import MisuseError
from aligner.judging.reward import load_reward_model
from aligner.models.hf import load_causal_lm
from aligner.records import Message
from aligner.training.adapter import Fit, Progress, check_rewardable, fit_reward, reward_accuracy, rewards_of
from aligner.training.pairs import EncodedPair

_HOW = RewardStage(batch=4, accumulate=2, epochs=1, learning_rate=3e-3, warmup=0.0)
_UPSTREAM = Path(__file__).parents[2] / "src" / "aligner" / "assets" / "upstream"
_QUESTIONS = [
    "How tall is Ann?",
    (Message("user", "Hello"), Message("assistant", "Hi!"), Message("user", "How tall is Ann?")),
    "Say </s> or <|assistant|>, please.",
]


def _pairs(tokenizer: Any, numbers: Sequence[int] = range(48)) -> list[EncodedPair]:
    texts = [Pair(f"Is {i} even?", f"Yes, {i} is.", f"No, {i} is not.") for i in numbers]
    return preference_pairs(tokenizer, texts, max_length=200).pairs


def _learnt(base: Path, out: Path, how: RewardStage = _HOW, **changes: Any) -> tuple[Any, list[Progress]]:
    """The reward model of that base, which is saved too, and what was told."""
    lm, told = load_causal_lm(base, "cpu"), list[Progress]()
    options: dict[str, Any] = {"seed": 0, "save_every": 2, "on_progress": told.append, **changes}
    plan = Fit(stage=how, folder=out, **options)
    model = fit_reward(lm.model, lm.tokenizer, _pairs(lm.tokenizer), plan, how)
    model.save_pretrained(out / "model")
    lm.tokenizer.save_pretrained(out / "model")
    return model, told


def _bytes(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_what_is_chosen_gets_more(base: Path, tmp_path: Path) -> None:
    """Pairs that were not learnt from are ranked, also by the judge who reads what was saved."""
    model, told = _learnt(base, tmp_path / "out", replace(_HOW, accumulate=1))
    assert told[-1].loss < told[0].loss
    assert told[-1].extra["margin"] > told[0].extra["margin"]
    held_out = _pairs(load_causal_lm(base, "cpu").tokenizer, range(60, 80))
    assert reward_accuracy(model, held_out) >= 0.9
    judge = load_reward_model(str(tmp_path / "out" / "model"), "cpu")
    assert judge.reward("Is 61 even?", "Yes, 61 is.") > judge.reward("Is 61 even?", "No, 61 is not.")


def test_it_begins_as_the_language_model(base: Path, tmp_path: Path) -> None:
    """All weights but the head are those of the model, which stays as it is; the head comes of the seed."""
    how = replace(_HOW, learning_rate=0.0, max_steps=1)
    heads = [_learnt(base, tmp_path / f"{seed}", how, seed=seed)[0].score.weight for seed in (0, 1)]
    assert not torch.equal(*heads)
    begun, before = load_file(tmp_path / "0" / "model" / "model.safetensors"), load_file(base / "model.safetensors")
    assert begun.keys() - before.keys() == {"score.weight"}
    assert before.keys() - begun.keys() == {"lm_head.weight"}
    assert all(torch.equal(begun[name], before[name]) for name in begun.keys() & before.keys())
    lm, how = load_causal_lm(base, "cpu"), replace(_HOW, max_steps=1)
    plan = Fit(stage=how, folder=tmp_path / "learnt", seed=0, save_every=2)
    learnt = fit_reward(lm.model, lm.tokenizer, _pairs(lm.tokenizer), plan, how)
    assert all(torch.equal(weight, before[name]) for name, weight in lm.model.state_dict().items())
    assert not torch.equal(learnt.score.weight, heads[0])


def test_a_step_learns_from_the_first_pairs(base: Path, tmp_path: Path) -> None:
    """Its loss is that of Bradley and Terry, and the mean square of both rewards together, by the weight `center`."""
    model, (told,) = _learnt(base, tmp_path / "out", replace(_HOW, max_steps=1, learning_rate=0.0, center=0.3))
    pairs = _pairs(load_causal_lm(base, "cpu").tokenizer)[:8]
    chosen = rewards_of(model, [(*pair.prompt, *pair.chosen) for pair in pairs], batch=3)
    rejected = rewards_of(model, [(*pair.prompt, *pair.rejected) for pair in pairs], batch=3)
    ranked = fmean(log(1 + exp(bad - good)) for good, bad in zip(chosen, rejected, strict=True))
    centred = fmean((good + bad) ** 2 for good, bad in zip(chosen, rejected, strict=True))
    assert told.loss == pytest.approx(ranked + 0.3 * centred, rel=1e-4)
    assert told.extra["margin"] == pytest.approx(fmean(chosen) - fmean(rejected), rel=1e-3)


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_the_judge_reads_what_was_learnt_from(base: Path, tmp_path: Path, kind: str) -> None:
    """The same ids, to the end of the text: with a chat format and without, and where texts spell control tokens."""
    source = {"chat": _UPSTREAM, "plain": base}[kind]
    model, _ = _learnt(source, tmp_path / "out", replace(_HOW, max_steps=1))
    judge = load_reward_model(str(tmp_path / "out" / "model"))
    answers = ["She is 170 cm tall.", "<|user|>No</s>.", ""]
    for question in _QUESTIONS:
        texts = [Pair(question, answers[0], answers[1]), Pair(question, answers[2], "x")]
        (pair, other), _ = preference_pairs(judge.tokenizer, texts, max_length=200)
        rows = [(*pair.prompt, *end) for end in (pair.chosen, pair.rejected, other.chosen)]
        given = [judge.reward(question, answer) for answer in answers]
        assert given == pytest.approx(rewards_of(model, rows, batch=1), rel=1e-5)
        assert len({round(reward, 4) for reward in given}) == len(given)


def test_a_tokenizer_may_have_no_id_for_padding(base: Path, tmp_path: Path) -> None:
    """Then the end of the text fills batches up, and what is read together gets what it gets alone."""
    folder = tmp_path / "base"
    lm = load_causal_lm(base, "cpu")
    lm.tokenizer.pad_token = None
    for part in lm:
        part.save_pretrained(folder)
    model, _ = _learnt(folder, tmp_path / "out")
    rows = [(*pair.prompt, *pair.chosen) for pair in _pairs(lm.tokenizer, [1, 1000, 10, 100000])]
    alone = rewards_of(model, rows, batch=1)
    assert alone == pytest.approx(rewards_of(model, rows, batch=4), abs=1e-5)
    assert len(set(alone)) == len(rows)


@pytest.mark.slow
def test_low_rank_adapters_are_merged(base: Path, tmp_path: Path) -> None:
    """The head is learnt as a whole beside them, and a plain classifier comes out."""
    _learnt(base, tmp_path / "whole", replace(_HOW, max_steps=1))
    _learnt(base, tmp_path / "out", lora=Lora(rank=2))
    trained, whole = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("out", "whole"))
    assert trained.keys() == whole.keys()
    before = load_file(base / "model.safetensors")
    moved = [name for name in before.keys() & trained.keys() if not torch.equal(trained[name], before[name])]
    assert any("q_proj" in name for name in moved)
    assert not any("norm" in name for name in moved)
    assert not torch.equal(trained["score.weight"], whole["score.weight"])


@pytest.mark.slow
def test_an_interruption_changes_nothing(base: Path, tmp_path: Path) -> None:
    """Interrupted behind a checkpoint, the same call ends with the same bytes."""
    how = replace(_HOW, max_steps=4)
    _learnt(base, tmp_path / "undisturbed", how)
    with pytest.raises(KeyboardInterrupt):
        _learnt(base, tmp_path / "out", how, measure_every=3, measure=_interrupt)
    assert [path.parent.name for path in (tmp_path / "out").glob("checkpoint-*/COMPLETE")] == ["checkpoint-2"]
    _learnt(base, tmp_path / "out", how)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "undisturbed")


def test_weights_in_parts_are_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither four bits nor weights that lie on several processes can be learnt with."""
    with pytest.raises(MisuseError, match=r"lora\.bits = 4"):
        _learnt(base, tmp_path / "out", lora=Lora(rank=2, bits=4))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(MisuseError, match="without FSDP and DeepSpeed"):
        _learnt(base, tmp_path / "out")


@pytest.mark.parametrize("config", [CohereConfig, GraniteConfig])
def test_a_family_without_classifiers_is_refused(config: Any) -> None:
    """Where no reward model can be made of an upstream, one line says so and what to choose; others may be."""
    with pytest.raises(MisuseError, match=rf"^.* of the family {config.model_type}, .*; choose sft, dpo or kto, .*$"):
        check_rewardable(config())
    for known in (LlamaConfig, Qwen3Config):
        check_rewardable(known())


def test_no_pairs_have_no_accuracy(base: Path, tmp_path: Path) -> None:
    """Of nothing, no share is right."""
    model, _ = _learnt(base, tmp_path / "out", replace(_HOW, max_steps=1))
    assert reward_accuracy(model, []) == pytest.approx(nan, nan_ok=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
