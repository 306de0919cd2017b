"""Learn from pairs how good an answer is: a reward model, for the judge, for reinforcement and for best-of-n."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification
from transformers.utils import logging

from aligner.config import Lora
from aligner.config.bootstrapping import RewardStage
from aligner.errors import MissingExtraError, MisuseError
from aligner.training import processes
from aligner.training.adapter.arguments import Fit, common_arguments, low_rank
from aligner.training.adapter.batches import PairBatches, pad_id_of
from aligner.training.adapter.fitting import run_to_the_end
from aligner.training.adapter.hushed import hushed
from aligner.training.adapter.watching import Watcher
from aligner.training.checkpoints import CompleteMarker
from aligner.training.launched import is_sharded
from aligner.training.pairs import EncodedPair

try:
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import DataCollatorForPreference, RewardTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

_TOLD = ("accuracy", "margin", "mean_reward")
"""what TRL's log says besides the loss and is told on"""


@hushed()
def fit_reward(model: Any, tokenizer: Any, pairs: Sequence[EncodedPair], plan: Fit, how: RewardStage) -> Any:
    """A sequence classifier with one output that has learnt to reward what is chosen, in the order of the pairs.

    It begins as the causal language model, which stays as it is, with a head made from the seed. Interrupted and
    called again, it gives the same weights. The loss is that of Bradley and Terry, and `how.center` times the mean
    square of the sum of what both sides get, as TRL has it. Saved, it is read by `judging.reward`. Raises MisuseError
    for weights that are sharded, or in four bits, and what `check_rewardable` raises.
    """
    check_rewardable(model.config)
    _check_whole(plan.lora)
    logging.disable_progress_bar()
    pad_id = pad_id_of(tokenizer)
    classifier = classifier_of(model, pad_id, seed=plan.seed)
    batches = PairBatches(pairs, how, partial(_collated, DataCollatorForPreference(pad_id)))
    trainer = _Trainer(
        model=classifier,
        processing_class=tokenizer,
        args=_arguments(plan, how, rows=len(batches.lengths), on_cpu=model.device.type == "cpu"),
        train_dataset=batches.numbered(),
        data_collator=batches,
        callbacks=[CompleteMarker(), Watcher(plan, batches.lengths, told=_TOLD)],
        peft_config=_low_rank(plan.lora),
    )
    return run_to_the_end(trainer, plan)


def check_rewardable(config: Any) -> None:
    """Raises MisuseError for the configuration of a model from whose family no reward model can be made."""
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise MisuseError(
            f"transformers knows no sequence classifier of the family {config.model_type}, so that no reward model can "
            "be made from the upstream; choose sft, dpo or kto, or another upstream"
        )


def classifier_of(model: Any, pad_id: int, *, seed: int) -> Any:
    """A causal language model's copy with a head of one output, made from the seed, in place of its own."""
    config = deepcopy(model.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = pad_id
    # Kept with the weights, it has a judge read the ids that are learnt from, and not a chat format's turns.
    config.reads_what_is_written = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = cast("Any", AutoModelForSequenceClassification).from_config(config, dtype=model.dtype)
    classifier.base_model.load_state_dict(model.base_model.state_dict())
    return classifier.to(model.device)


def rewards_of(model: Any, rows: Sequence[Sequence[int]], *, batch: int) -> list[float]:
    """What a reward model gives to each row of ids, in their order; so many are read together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    given: dict[int, float] = {}
    for start in range(0, len(rows), batch):
        places = order[start : start + batch]
        given |= zip(places, _of_batch(model, [rows[place] for place in places]), strict=True)
    return [given[place] for place in range(len(rows))]


def reward_accuracy(model: Any, pairs: Sequence[EncodedPair], *, batch: int = 32) -> float:
    """Share of the pairs whose chosen side gets the higher reward; not a number where there are none."""
    chosen = rewards_of(model, [(*pair.prompt, *pair.chosen) for pair in pairs], batch=batch)
    rejected = rewards_of(model, [(*pair.prompt, *pair.rejected) for pair in pairs], batch=batch)
    right = [good > bad for good, bad in zip(chosen, rejected, strict=True)]
    return sum(right) / len(right) if right else float("nan")


def _of_batch(model: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    tensors = [torch.tensor(row) for row in rows]
    # The model finds the end of a row by this id.
    filler = model.config.get_text_config().pad_token_id
    ids = pad_sequence(tensors, batch_first=True, padding_value=filler)
    mask = pad_sequence([torch.ones_like(row) for row in tensors], batch_first=True)
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
    return logits[:, 0].float().tolist()


def _collated(collator: DataCollatorForPreference, pairs: Sequence[EncodedPair]) -> dict[str, torch.Tensor]:
    as_trl_has_it = [
        {"chosen_ids": [*pair.prompt, *pair.chosen], "rejected_ids": [*pair.prompt, *pair.rejected]} for pair in pairs
    ]
    return collator.torch_call(as_trl_has_it)


class _Trainer(RewardTrainer):
    """TRL's reward modelling over batches that are ready."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["batch"]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: an Aligner's card is aligner.json."""


def _arguments(plan: Fit, how: RewardStage, *, rows: int, on_cpu: bool) -> RewardConfig:
    return RewardConfig(
        **common_arguments(plan, rows=rows, on_cpu=on_cpu),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=processes.share_of(how.accumulate),
        center_rewards_coefficient=how.center,
        max_length=None,
    )


def _low_rank(lora: Lora) -> Any:
    """The same as for a language model, and the head as a whole."""
    config = low_rank(lora)
    if config is not None:
        config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
    return config


def _check_whole(lora: Lora) -> None:
    if is_sharded():
        raise MisuseError("a reward model is learnt with whole weights: start it without FSDP and DeepSpeed")
    if lora.bits == 4:
        raise MisuseError("lora.bits = 4: a reward model is learnt with weights in 16 bits; set it to 16")
