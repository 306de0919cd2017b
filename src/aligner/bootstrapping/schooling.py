"""The steps of a round in which something is learnt: what they come from, and what they are made with."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

from aligner.bootstrapping.learning import Room, learn, learn_reward
from aligner.bootstrapping.lineage import Artefact, Place
from aligner.bootstrapping.mixing import lesson_in
from aligner.bootstrapping.steps import RowSteps, ToDo, questions_in
from aligner.config import Optimisation
from aligner.config.bootstrapping import REWARDED


@dataclass(frozen=True)
class Steps(RowSteps):
    """All steps of one round of one arm with one seed; round 0 is that of the first upstream."""

    @property
    def learns_rewards(self) -> bool:
        """Whether the round has a reward model."""
        return self.arm.way in REWARDED

    def teaches(self, lesson: Artefact) -> bool:
        """Whether there is anything to learn."""
        return bool(lesson_in(lesson.path).pairs)

    def reward(self, upstream: Artefact, lesson: Artefact) -> ToDo:
        """The reward model of the round."""
        inputs = {"upstream": upstream.sha256, "lessons": lesson.sha256, **self._settings(self.arm.reward)}
        return ToDo(inputs, partial(_in_room, learn_reward, self._room(upstream, lesson)))

    def model(self, upstream: Artefact, lesson: Artefact, prompts: Artefact, reward: Artefact | None) -> ToDo:
        """The upstream that has learnt, from the reward model if there is one."""
        arm, config = self.arm, self.config
        reference = upstream if arm.reference == "previous" else self.first_upstream
        how = cast("Optimisation", arm.rl if self.learns_rewards else getattr(arm, arm.way))
        inputs = {"upstream": upstream.sha256, "lessons": lesson.sha256, "way": arm.way, **self._settings(how)}
        if arm.way != "sft":
            inputs |= {"reference": reference.sha256}
        if reward is not None:
            inputs |= {"reward": reward.sha256, "prompts": prompts.sha256, "sampling": asdict(config.sampling)}
        if arm.accept == "guarded":
            inputs |= {"chosen": config.guards.chosen}
        room = self._room(upstream, lesson, reference=reference, prompts=prompts, reward=reward)
        return ToDo(inputs, partial(_in_room, learn, room))

    def _settings(self, how: Optimisation) -> Mapping[str, Any]:
        """What weights depend on besides what they are learnt from."""
        config = self.config
        return {"how": asdict(how), "lora": asdict(config.lora), "max_length": config.max_length, "noise": self.noise}

    def _room(
        self,
        upstream: Artefact,
        lesson: Artefact,
        *,
        reference: Artefact | None = None,
        prompts: Artefact | None = None,
        reward: Artefact | None = None,
    ) -> Callable[[], Room]:
        return lambda: Room(
            config=self.config,
            arm=self.arm,
            seed=self.noise,
            folder=self.lineage.folder,
            say=self.study.say,
            start=upstream.path,
            reference=(reference or upstream).path,
            lesson=lesson_in(lesson.path),
            prompts=questions_in(prompts.path) if prompts else (),
            reward=reward.path if reward else None,
        )


def _in_room(learn: Callable[[Room, Place], None], room: Callable[[], Room], place: Place) -> None:
    learn(room(), place)
