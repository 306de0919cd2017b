"""Sample answers, have them marked, and learn from the marks (RLOO, GRPO), with prompts in an order that is given."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import cycle, islice
from math import ceil, isfinite
from typing import Any, Literal

from transformers.utils import logging

from aligner.config.bootstrapping import RLArm, Sampling
from aligner.errors import MissingExtraError, MisuseError, ModelError
from aligner.training.adapter.arguments import Fit, low_rank
from aligner.training.adapter.fitting import run_to_the_end
from aligner.training.adapter.hushed import hushed
from aligner.training.adapter.reference import loaded
from aligner.training.adapter.reinforcing_answers import Ends, Stops, answering_of, ends_of
from aligner.training.adapter.reinforcing_trainers import TRAINERS, reinforcing_arguments
from aligner.training.adapter.watching import Watcher
from aligner.training.checkpoints import CompleteMarker
from aligner.training.launched import is_sharded
from aligner.training.prompts import Prompt, check_sampled

try:
    from datasets import Dataset
    from trl.trainer.utils import add_fused_lm_head
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error

Reward = Callable[[Sequence[int], Sequence[str], Sequence[Sequence[int]]], Sequence[float]]
"""from the numbers of prompts, the texts of answers to them and their ids to a mark for each answer

Whatever ended an answer, its ids end with the tokenizer's end of a text, as those of lessons do; else it was cut off.
"""

_TOLD = ("reward", "reward_std", "kl", "entropy", "completions/mean_length", "completions/clipped_ratio", "num_tokens")
"""what TRL's log says besides the loss and is told on; its kl where there is a reference"""


@hushed()
def reinforce(  # noqa: PLR0913  # keywords
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    plan: Fit,
    how: RLArm,
    *,
    way: Literal["rloo", "grpo"],
    reward: Reward,
    sampling: Sampling,
    reference: Any | Callable[[], Any] | None = None,
    stops: Stops | None = None,
) -> Any:
    """The model that writes what is marked higher; interrupted and called again, it gives the same weights.

    The prompts are asked in their order, `how.epochs` times, the last step filled up with the first ones; `how.samples`
    answers to each stand side by side in a step. Their noise is a function of `plan.seed`, the step and the place.
    It is held to `reference`, which may be a function that loads it, or to the model that is handed in, also when it
    goes on from a checkpoint. An answer ends with any token that the model or its tokenizer calls an end, or where
    `stops` says so; it learns from all that it wrote up to there.

    rloo: an answer's advantage is its mark, less beta times its log ratio to the reference, less the mean of the others
    to its prompt (Ahmadian et al., 2024; TRL's RLOOTrainer). grpo: its mark less the mean of all to its prompt, over
    their standard deviation (`scale_rewards="group"`; Shao et al., 2024); the loss is the mean over all tokens of a
    step (`loss_type="dapo"`; Yu et al., 2025), plus beta times Schulman's estimate of the divergence. Both are TRL's
    defaults.

    Raises MisuseError for settings that do not go together, and ModelError for a mark that is no number.
    """
    check_sampled(how, sampling)
    if is_sharded():
        raise MisuseError(f"{way}: a model that is split over processes cannot answer while it learns; train it whole")
    logging.disable_progress_bar()
    asked = _asked(prompts, how)
    ends = ends_of(model, tokenizer, stops)
    answering = answering_of(model, prompts, sampling, ends, seed=plan.seed)
    read = [len(prompt.ids) for prompt in asked for _ in range(how.samples)]
    held_to = _held_to(model, plan, how, reference)
    arguments = reinforcing_arguments(
        plan, how, sampling, way, rows=len(asked) * how.samples, on_cpu=model.device.type == "cpu"
    )
    trainer = TRAINERS[way](
        model=model,
        reward_funcs=_marked(tokenizer, asked, ends, reward),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": list(range(len(asked)))}),
        processing_class=tokenizer,
        callbacks=[CompleteMarker(), Watcher(plan, read, told=_TOLD)],
        peft_config=low_rank(plan.lora),
    )
    trainer.asked, trainer.answering = asked, answering
    if held_to is not None:
        add_fused_lm_head(held_to, temperature=sampling.temperature)
        trainer.ref_model, trainer.beta = held_to, how.beta
    try:
        return _bare(run_to_the_end(trainer, plan))
    finally:
        _bare(held_to)


def _asked(prompts: Sequence[Prompt], how: RLArm) -> list[Prompt]:
    """The prompts in their order, as often as they are asked, and as many as make whole steps."""
    if not prompts:
        raise MisuseError("no prompts to answer; raise max_length, or give more of them")
    step = how.rows_a_step // how.samples
    steps = max(ceil(round(len(prompts) * how.epochs) / step), 1)
    return list(islice(cycle(prompts), steps * step))


def _marked(tokenizer: Any, asked: Sequence[Prompt], ends: Ends, reward: Reward) -> Callable[..., list[float]]:
    """The reward as TRL calls it; texts are decoded as answers are wherever else a model is asked."""

    def mark(prompts: Sequence[int], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        answers = [ends.as_taught(ids) for ids in completion_ids]
        texts: list[str] = tokenizer.batch_decode(answers, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        marks = [float(found) for found in reward([asked[place].number for place in prompts], texts, answers)]
        if bad := [asked[place].number for place, found in zip(prompts, marks, strict=True) if not isfinite(found)]:
            raise ModelError(f"the reward of an answer to prompt {bad[0]} is no finite number")
        return marks

    return mark


def _held_to(model: Any, plan: Fit, how: RLArm, reference: Any | Callable[[], Any] | None) -> Any | None:
    """The model that stands for the reference; none where there is no need of one.

    TRL would read it from the folder that the model once came from.
    """
    if not how.beta or (reference is None and plan.lora.rank):
        return None
    other = loaded(reference)
    held_to = deepcopy(model) if other is None or other is model else other
    return held_to.to(model.device).eval()


def _bare(model: Any) -> Any:
    """The model without what TRL puts before its forward pass, by which a copy would use the weights of this one."""
    if model is not None:
        vars(model).pop("forward", None)
    return model
