"""What a lesson is made with: the model itself, asked for samples, and who values them."""

from collections.abc import Sequence

from aligner.config import OnPolicyStage
from aligner.judge import load_judge
from aligner.judging.values import value_of
from aligner.models.hf import CausalLM
from aligner.records import SamplingParams, Triple
from aligner.tasks.refusals import refuses
from aligner.teaching.school import School
from aligner.training.lessons import Bench
from aligner.training.measuring import asked
from aligner.training.on_policy import Value, exact_value


def bench_of(school: School, lm: CausalLM) -> Bench:
    """What there is to make a lesson with, while the model is this one."""
    config, aligner = school.run.config, school.aligner(lm)

    def sample(triples: Sequence[Triple], *, samples: int, temperature: float, seed: int) -> list[Sequence[str]]:
        exchanges = list(map(asked, triples))
        draws = [SamplingParams(temperature=temperature, seed=seed + i) for i in range(samples)]
        drawn = [aligner.correct_many(exchanges, sampling=draw) for draw in draws]
        # A text that a guard threw away is no sample of the model.
        return [[made.text for made in of_row if not made.kept_reason] for of_row in zip(*drawn, strict=True)]

    def value(pairs: Sequence[tuple[Triple, str]]) -> Sequence[bool]:
        return _value(config.on_policy)(pairs)  # a judge is loaded by the stage that asks it, and by no other

    return Bench(
        triples=school.training,
        encoder=school.encoder(lm),
        tokenizer=lm.tokenizer,
        max_length=school.longest(lm),
        seed=config.seed,
        sample=sample,
        value=value,
        refuses=refuses,
        say=school.run.say,
    )


def _value(how: OnPolicyStage) -> Value:
    """Whether a sampled correction is worth learning: it is the correction, or a judge prefers it."""
    return exact_value if how.judge == "exact" else value_of(load_judge(how.judge).compare, how.qualities)
