"""Laws of the loss: it is the weighted mean over a step, whatever the layout of its batches."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny import Family, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, BloomForCausalLM, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from aligner.config import Lora, Optimisation
from aligner.errors import MisuseError
from aligner.models.quantised import check_bits
from aligner.training.adapter import Fit, fit
from aligner.training.adapter.fitting import trainer_of
from aligner.training.adapter.packing import check_packing, keeps_apart
from aligner.training.adapter.trainer import logits_where
from aligner.training.adapter.whole import saved_and_loaded, whole
from aligner.training.collating import collate
from aligner.training.encode import EncodedRow, grouped_by_length

Gradients = dict[str, torch.Tensor]


def _rows(*, weighted: bool) -> list[EncodedRow]:
    """Eight rows of different lengths; weights are 0, 1 or 3."""
    random = Random(0)
    rows: list[EncodedRow] = []
    for size in (12, 40, 7, 23, 23, 9, 31, 15):
        ids = tuple(random.randrange(20, 290) for _ in range(size))
        prompt = random.randint(1, size - 2)
        weights = (*random.choices((0.0, 1.0, 3.0), k=size - prompt - 1), 1.0)
        rows.append(EncodedRow(ids, prompt, weights if weighted else ()))
    return rows


def _plain(model: Any, rows: Sequence[EncodedRow]) -> tuple[float, Gradients]:
    """The loss and its gradient, written down as they are defined: row by row, token by token."""
    lost, weight = torch.zeros((), dtype=torch.float64), 0.0
    for row in rows:
        log_probs = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        weights = row.weights or (1.0,) * (len(row.ids) - row.prompt_length)
        for place, token_weight in enumerate(weights, start=row.prompt_length):
            lost = lost - token_weight * log_probs[place - 1, row.ids[place]]
            weight += token_weight
    loss = lost / weight
    loss.backward()
    return float(loss.detach()), {name: value.grad.clone() for name, value in model.named_parameters()}


class _Catch(TrainerCallback):
    """Keeps the gradients of the first step, and the loss that was logged."""

    def __init__(self) -> None:
        self.gradients: Gradients = {}
        self.loss = 0.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.gradients = {name: value.grad.clone() for name, value in model.named_parameters()}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.loss = logs.get("loss", self.loss)


def _step(trainer: Any) -> tuple[float, Gradients]:
    caught = _Catch()
    trainer.add_callback(caught)
    trainer.train()
    return caught.loss, caught.gradients


def _assert_same(found: tuple[float, Gradients], wanted: tuple[float, Gradients], *, near: float) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=max(near, 1e-6))
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=near, atol=near * float(gradient.abs().max()))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "base")


def _exact(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base).double()


@pytest.mark.parametrize("packing", ["off", "on"])
@pytest.mark.parametrize("batch", [8, 4, 2])
def test_the_loss_is_the_weighted_mean_over_the_step(base: Path, tmp_path: Path, batch: int, packing: Any) -> None:
    """Loss and gradient are those of a plain loop in float64, padded or packed, grouped by length, and accumulated."""
    rows = _rows(weighted=True)
    stage = Optimisation(batch=batch, accumulate=8 // batch, max_steps=1, clip=0.0)
    plan = Fit(stage=stage, folder=tmp_path / "fit", seed=1, save_every=1000, packing=packing)
    ordered = grouped_by_length(rows, batch=batch, seed=3)
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = _step(trainer_of(_exact(base), tokenizer, ordered, plan))
    _assert_same(found, _plain(_exact(base), rows), near=1e-10)


def test_without_weights_it_is_the_loss_of_stock_training(base: Path, tmp_path: Path) -> None:
    """Where all weights are 1, loss and gradient are those of TRL's own trainer with its own collation."""
    rows, tokenizer = _rows(weighted=False), AutoTokenizer.from_pretrained(base)
    data = Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": [row.labels for row in rows]})
    shared: dict[str, Any] = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "max_steps": 1}
    args = SFTConfig(
        output_dir=str(tmp_path / "stock"),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_grad_norm=0.0,
        logging_steps=1,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to="none",
        disable_tqdm=True,
        **shared,
    )
    stock = SFTTrainer(model=_exact(base), processing_class=tokenizer, args=args, train_dataset=data)
    stage = Optimisation(batch=4, accumulate=2, max_steps=1, clip=0.0)
    plan = Fit(stage=stage, folder=tmp_path / "fit", seed=1, save_every=1000)
    found = _step(trainer_of(_exact(base), tokenizer, rows, plan))
    _assert_same(found, _step(stock), near=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_packed_rows_do_not_see_each_other(tmp_path: Path, family: Family) -> None:
    """In every family, the logits of a packed row are those of the row alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path, family)).double().requires_grad_(False)
    assert keeps_apart(model)
    rows = _rows(weighted=True)
    batch = collate(rows, pad_id=0, packed=True)
    assert len(batch["input_ids"]) < len(rows)
    found = logits_where(model, batch, batch["weights"][:, 1:] != 0)[0]
    alone = [collate([row], pad_id=0) for row in rows]
    wanted = torch.cat([logits_where(model, one, one["weights"][:, 1:] != 0)[0] for one in alone])
    # Rows lie in another order on their lines: what is compared is the set of them.
    torch.testing.assert_close(*(one[one[:, 5].argsort()] for one in (found, wanted)), rtol=1e-10, atol=1e-12)


def test_a_model_whose_packed_rows_see_each_other_is_refused() -> None:
    """A model that knows no positions to keep rows apart by is not trained on packed rows."""
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(MisuseError, match="see each other in BloomForCausalLM; set it to off"):
        check_packing(model)


def test_only_learnt_positions_reach_the_head(base: Path) -> None:
    """The head is given as many hidden states as there are learnt tokens, in a batch of rows of all lengths."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    seen: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _, given: seen.append(given[0].numel() // given[0].shape[-1]))
    batch = collate(_rows(weighted=True), pad_id=0)
    learnt = batch["weights"][:, 1:] != 0
    logits_where(model, batch, learnt)
    assert seen == [int(learnt.sum())]


def test_gradient_checkpointing_changes_memory_alone(base: Path, tmp_path: Path) -> None:
    """Activations that are computed twice give the loss and the gradient of those that are kept, bit for bit."""
    rows, tokenizer, found = _rows(weighted=True), AutoTokenizer.from_pretrained(base), []
    for how in ("off", "on"):
        stage = Optimisation(batch=8, accumulate=1, max_steps=1, clip=0.0)
        plan = Fit(stage=stage, folder=tmp_path / how, seed=1, save_every=1000, gradient_checkpointing=how)
        trainer: Any = trainer_of(_exact(base), tokenizer, rows, plan)
        found.append(_step(trainer))
        assert trainer.model.is_activation_checkpointing == (how == "on")
    _assert_same(found[1], found[0], near=0.0)


def test_a_tokenizer_may_have_no_id_for_padding(base: Path, tmp_path: Path) -> None:
    """Rows of unequal length are filled up with the end of the text, and what is learnt is the same."""
    rows, found = _rows(weighted=True), []
    for pad in ("<pad>", None):
        tokenizer: Any = AutoTokenizer.from_pretrained(base)
        tokenizer.pad_token = pad
        stage = Optimisation(batch=4, accumulate=2, max_steps=1, clip=0.0)
        plan = Fit(stage=stage, folder=tmp_path / f"{pad}", seed=1, save_every=1000)
        found.append(fit(_exact(base), tokenizer, rows, plan).state_dict())
    assert all(torch.equal(weight, found[1][name]) for name, weight in found[0].items())


def test_a_model_that_went_by_a_folder_is_the_model(base: Path, tmp_path: Path) -> None:
    """Collected from a folder and merged into its base, as sharded or four-bit training needs it, nothing changes."""
    lora = Lora(rank=2)
    stage = Optimisation(batch=8, accumulate=1, max_steps=2, warmup=0.0, learning_rate=1e-2)
    plan = Fit(stage=stage, folder=tmp_path / "fit", seed=1, save_every=1000, lora=lora)
    model = AutoModelForCausalLM.from_pretrained(base)
    trainer = trainer_of(model, AutoTokenizer.from_pretrained(base), _rows(weighted=True), plan)
    trainer.train()
    collected = saved_and_loaded(trainer, tmp_path / "whole", lora).state_dict()
    merged = whole(trainer, plan).state_dict()
    assert collected.keys() == merged.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(collected[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("lora", "said"),
    [(Lora(bits=4), "set lora.rank"), (Lora(rank=4, bits=4), "no GPU can be used here; set it to 16")],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can be used here")
def test_four_bits_that_cannot_be_had_are_refused(lora: Lora, said: str) -> None:
    """What QLoRA needs is said in one line with its cure, before anything is loaded."""
    with pytest.raises(MisuseError, match=said):
        check_bits(lora)
