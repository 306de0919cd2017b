"""Looking at a model while it learns."""

from collections.abc import Sequence

from aligner.correct import Aligner
from aligner.models.hf import CausalLM
from aligner.records import Triple
from aligner.teaching.school import School
from aligner.training.losses import row_losses
from aligner.training.measured import Measured
from aligner.training.measuring import Losses, asked, measure, standard_named


def copy_rate(aligner: Aligner, triples: Sequence[Triple]) -> float:
    """The share of answers that come back as they were."""
    corrections = aligner.correct_many(map(asked, triples))
    # An answer that a guard kept was not copied by the model.
    copied = [not correction.changed and not correction.kept_reason for correction in corrections]
    return sum(copied) / max(len(copied), 1)


def measure_model(school: School, lm: CausalLM, rows: Sequence[Triple]) -> Measured:
    """What a model as it is makes of held-out rows."""
    aligner, standard = school.aligner(lm), standard_named(school.run.config.measure.by)
    return measure(lambda exchanges: list(aligner.correct_many(exchanges)), losses_of(school, lm), rows, standard)


def losses_of(school: School, lm: CausalLM) -> Losses:
    """How a model's loss on rows is found."""
    encoder, longest = school.encoder(lm), school.longest(lm)
    return lambda rows: row_losses(lm.model, encoder, lm.tokenizer.eos_token_id, rows, max_length=longest)
