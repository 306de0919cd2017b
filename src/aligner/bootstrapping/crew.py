"""Who takes part in a study: its Aligners, its judges, and what its upstream was made with; loaded when needed."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from aligner.bootstrapping.gating import check_judge
from aligner.config import BootstrapConfig
from aligner.config.bootstrapping import REWARDED
from aligner.correct import Aligner
from aligner.data.fields import question_of, text_field
from aligner.files import bad_rows_named, read
from aligner.judge import Judge, load_judge
from aligner.models.hf import load_without_weights
from aligner.records import Question
from aligner.training.adapter import check_rewardable
from aligner.training.card import file_hash


class Crew:
    """The Aligners in the order in which they correct, the judge who decides, and another who looks at a sample."""

    def __init__(self, config: BootstrapConfig) -> None:
        self._config = config

    def check(self, upstreams: Iterable[Path]) -> None:
        """Raise MisuseError for a judge that cannot judge what the gate asks, or an upstream that cannot learn so."""
        for judge in filter(None, (self.judge, self.audit_judge)):
            check_judge(judge, self._config.gate.qualities)
        if any(arm.way in REWARDED for arm in self._config.arms):
            for folder in upstreams:
                check_rewardable(load_without_weights(folder).config)

    @cached_property
    def aligners(self) -> Sequence[Aligner]:
        """The Aligners, loaded."""
        names, gate, device = self._config.aligners, self._config.aligner_gate, self._config.device
        return [Aligner.from_pretrained(name, device=device, gate=gate) for name in names]

    @cached_property
    def judge(self) -> Judge:
        """Who decides."""
        return load_judge(self._config.judge)

    @cached_property
    def audit_judge(self) -> Judge | None:
        """Who looks at a sample of the gate's decisions, if anybody does."""
        return load_judge(self._config.audit_judge) if self._config.audit_judge else None

    @cached_property
    def original(self) -> Sequence[tuple[Question, str]]:
        """Questions and answers that the upstream was made with, as far as they are given."""
        path = self._config.mix.original
        if path is None:
            return []
        return [parsed.value for parsed in read(path, _taught, bad_rows=bad_rows_named("stop", path))]

    @cached_property
    def original_hash(self) -> str:
        """The hash of their file."""
        return file_hash(self._config.mix.original) if self._config.mix.original else ""


def _taught(row: Mapping[str, object]) -> tuple[Question, str]:
    return question_of(row), text_field(row, "answer")
