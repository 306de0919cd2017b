"""TRL's trainers that learn from marks, with prompts of ours and answers of our decoder."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aligner.config.bootstrapping import RLArm, Sampling
from aligner.errors import MissingExtraError
from aligner.training import processes
from aligner.training.adapter.arguments import Fit, common_arguments
from aligner.training.adapter.reinforcing_answers import Answering
from aligner.training.prompts import Prompt

try:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer
except ImportError as error:
    raise MissingExtraError("training needs an extra: pip install 'aligner-llm[train]'") from error


class _Ours:
    """What both trainers do in our way: the prompts are ids, the answers come of our decoder."""

    asked: Sequence[Prompt]
    answering: Answering
    accelerator: Any
    state: Any

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the round that learns says what it did."""

    def _tokenize_prompts(self, prompts: Sequence[int]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [[*self.asked[place].ids] for place in prompts], None, {}

    def _answers(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        first = self.accelerator.process_index * len(prompts)
        return self.answering.draw(prompts, step=self.state.global_step, first=first)


class _RLOO(_Ours, RLOOTrainer):
    """RLOO with the answers of our decoder."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        return self._answers(prompt_ids)


class _GRPO(_Ours, GRPOTrainer):
    """GRPO with the answers of our decoder, whose log-likelihoods are computed when it learns."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        return self._answers(prompt_ids), None


TRAINERS: Mapping[str, Any] = {"rloo": _RLOO, "grpo": _GRPO}


def reinforcing_arguments(
    plan: Fit, how: RLArm, sampling: Sampling, way: Literal["rloo", "grpo"], *, rows: int, on_cpu: bool
) -> Any:
    """What such a trainer is told; `rows` is the number of answers that are to be learnt from."""
    share = processes.share_of(how.accumulate)
    given: dict[str, Any] = {
        **common_arguments(plan, rows=rows, on_cpu=on_cpu),
        "per_device_train_batch_size": how.batch,
        "gradient_accumulation_steps": share,
        # A checkpoint stands between two steps, so answers must not outlive one.
        "steps_per_generation": share,
        "num_iterations": 1,
        "num_generations": how.samples,
        "max_completion_length": sampling.max_tokens,
        "temperature": sampling.temperature,
        "shuffle_dataset": False,
        # Log-likelihoods of the same tokens are compared.
        "disable_dropout": True,
        # With one of the trainer's own, TRL reads it from where the model came from; adapters are switched off instead.
        "beta": how.beta if plan.lora.rank else 0.0,
    }
    if way == "rloo":
        return RLOOConfig(**given)
    return GRPOConfig(**given, loss_type="dapo", scale_rewards="group")
