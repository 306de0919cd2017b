"""Settings that contradict themselves or one another, told before anything is loaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from aligner.config import Lora, NewModel, Optimisation, TrainConfig
from aligner.errors import MisuseError, unknown
from aligner.files.paths import is_stream, kind_of
from aligner.files.reading import INPUTS
from aligner.objectives import instruction_from
from aligner.templates import TEMPLATES

JUDGES = tuple(
    "best-of critique echo hf openai ours published refusal replay reward rules self-refine truth world".split()
)
"""what may stand before the colon of a judge's name"""
_MEASURES = ("exact", "world")
_STAGES = ("copying", "identity", "correction", "preference", "on_policy")


def check(config: TrainConfig, *, processes: int = 1, sharded: bool = False) -> None:
    """Raise MisuseError for the first setting that cannot be meant, with what it would have to be.

    `processes` train one model together; `sharded` says that none of them has all of its weights.
    """
    _check_names(config)
    instruction_from(config.instruction, config.objective)
    for problem in _problems(config):
        raise MisuseError(problem)
    _check_triples(config)
    _check_shares(config, processes)
    if sharded:
        _check_looks(config)


def check_file(path: Path) -> None:
    """Raise MisuseError for a file of rows that is not there, or of a kind that cannot be read."""
    if is_stream(path):
        return
    if not path.exists():
        raise MisuseError(f"{path}: no such file")
    if path.is_dir():
        raise MisuseError(f"{path}: is a folder, not a file")
    kind_of(path, INPUTS)


def stages_begun(config: TrainConfig) -> frozenset[str]:
    """The fields of the stages that have something to do."""
    return frozenset(name for name in _STAGES if getattr(config, name).begins)


def _check_names(config: TrainConfig) -> None:
    """Names that are one of a few, each with the nearest that is known."""
    judge = config.on_policy.judge
    named = [
        ("template", config.template, TEMPLATES),
        ("--measure.by", config.measure.by, _MEASURES),
        ("--on-policy.judge", judge.partition(":")[0] if ":" in judge else judge, ("exact", *JUDGES)),
    ]
    for kind, name, known in named:
        if name not in known:
            raise unknown(kind, name, known)


def _check_shares(config: TrainConfig, processes: int) -> None:
    """Every process has as many batches of a step as the others."""
    begun = stages_begun(config)
    for name in _STAGES:
        accumulate = getattr(config, name).accumulate
        if name in begun and accumulate % processes:
            flag = f"--{name.replace('_', '-')}.accumulate"
            raise MisuseError(f"{flag} is {accumulate}; {processes} processes share it: choose a multiple of them")


def _check_looks(config: TrainConfig) -> None:
    """Nobody looks at a model that no process has."""
    looks = "identity" in stages_begun(config) and config.identity.check_every
    wrong = [
        flag for flag, every in (("--identity.check-every", looks), ("--measure.every", config.measure.every)) if every
    ]
    if wrong:
        told = f"{' and '.join(wrong)} must be 0 under FSDP and DeepSpeed"
        raise MisuseError(f"{told}: the weights are split, so no process can look at the model while it learns")


def _check_triples(config: TrainConfig) -> None:
    """The file is there, and of a kind that can be read; its rows are looked at when they are read."""
    if config.triples is not None:
        check_file(config.triples)


def _problems(config: TrainConfig) -> Iterator[str]:
    for name in _STAGES:
        yield from of_stage(f"--{name.replace('_', '-')}", getattr(config, name))
    yield from _of_rows(config)
    yield from _of_stages(config)
    yield from _of_measuring(config)
    yield from _of_model(config)
    yield from _of_feedback(config)


def of_stage(flag: str, how: Optimisation) -> Iterator[str]:
    """What cannot be meant of how a stage learns; `flag` is what stands before its dot."""
    yield from least(1, {f"{flag}.batch": how.batch, f"{flag}.accumulate": how.accumulate})
    not_negative = {"epochs": how.epochs, "max-steps": how.max_steps, "weight-decay": how.weight_decay}
    yield from least(0, {f"{flag}.{name}": value for name, value in not_negative.items()})
    yield from above(0, {f"{flag}.learning-rate": how.learning_rate, f"{flag}.clip": how.clip})
    yield from shares({f"{flag}.warmup": how.warmup})
    if not all(0 <= beta < 1 for beta in how.betas):
        yield f"{flag}.betas: {how.betas} are not both from 0 to less than 1"


def _of_rows(config: TrainConfig) -> Iterator[str]:
    yield from shares(
        {
            "--identity.share": config.identity.share,
            "--identity.until": config.identity.until,
            "--correction.mask-source": config.correction.mask_source,
            "--preference.share": config.preference.share,
            "--on-policy.share": config.on_policy.share,
        }
    )
    yield from least(
        0,
        {
            "--copying.rows": config.copying.rows,
            "--identity.check-every": config.identity.check_every,
            "--correction.random-share": config.correction.random_share,
            "--correction.identity-share": config.correction.identity_share,
            "--on-policy.mix": config.on_policy.mix,
            "--held-out": config.held_out,
            "--seed": config.seed,
        },
    )
    yield from least(1, {"--max-length": config.max_length, "--save-every": config.save_every})


def _of_stages(config: TrainConfig) -> Iterator[str]:
    correction, preference, on_policy = config.correction, config.preference, config.on_policy
    weights = {"--correction.edit-weight": correction.edit_weight, "--correction.copy-weight": correction.copy_weight}
    yield from least(0, weights)
    if not any(weights.values()):
        yield "--correction.edit-weight and --correction.copy-weight are both 0: nothing would be learnt"
    if preference.epochs and not (preference.rejected and preference.share):
        yield "--preference.epochs asks for pairs, but --preference.rejected or --preference.share leaves none"
    yield from above(0, {"--preference.beta": preference.beta})
    yield from least(0, {"--preference.sft-weight": preference.sft_weight, "--on-policy.rounds": on_policy.rounds})
    if on_policy.rounds and not (on_policy.share and on_policy.epochs):
        yield "--on-policy.rounds asks for samples, but --on-policy.share or --on-policy.epochs is 0"
    yield from least(1, {"--on-policy.samples": on_policy.samples})
    yield from least(0, {"--on-policy.temperature": on_policy.temperature})
    if on_policy.samples > 1 and not on_policy.temperature:
        yield "--on-policy.temperature is 0: all samples would be the same; raise it, or set --on-policy.samples 1"
    if not stages_begun(config):
        yield "nothing to do: every stage is left out"


def _of_measuring(config: TrainConfig) -> Iterator[str]:
    measure = config.measure
    yield from least(0, {"--measure.every": measure.every, "--measure.rows": measure.rows})
    if measure.keep == "best" and not (config.held_out and measure.every and measure.rows):
        yield "--measure.keep best needs --measure.every, --measure.rows and --held-out to be more than 0"
    if measure.keep == "best" and config.lora.rank:
        yield "--measure.keep best keeps whole models, and --lora.rank makes adapters: choose last, or rank 0"
    if not 0 < config.gate.wanted < 1:
        yield f"--gate.wanted is {config.gate.wanted:g}; it must be more than 0 and less than 1"


def of_lora(lora: Lora) -> Iterator[str]:
    """What cannot be meant of the adapters."""
    yield from least(0, {"--lora.rank": lora.rank})
    yield from least(1, {"--lora.alpha": lora.alpha})
    if not 0 <= lora.dropout < 1:
        yield f"--lora.dropout is {lora.dropout:g}; it must be from 0 to less than 1"


def _of_model(config: TrainConfig) -> Iterator[str]:
    lora = config.lora
    yield from of_lora(lora)
    if lora.bits == 4 and not lora.rank:
        yield "--lora.bits 4 holds frozen weights, but without --lora.rank none are frozen"
    if lora.bits == 4 and config.device == "cpu":
        yield "--lora.bits 4 needs a GPU, and --device is cpu"
    if config.base == "new":
        yield from _of_new(config.new)
    elif is_path(config.base) and not Path(config.base).expanduser().is_dir():
        yield f"--base {config.base}: no such directory"


def _of_new(new: NewModel) -> Iterator[str]:
    sizes = ("layers", "width", "heads", "inner", "vocabulary", "context")
    yield from least(1, {f"--new.{name}": getattr(new, name) for name in sizes})
    if new.width % (2 * new.heads):
        yield f"--new.width is {new.width}; it must be a multiple of twice --new.heads, {2 * new.heads}"


def _of_feedback(config: TrainConfig) -> Iterator[str]:
    if config.triples is None and not config.feedback:
        yield "nothing to learn from: give --triples, --feedback or both"
    if not config.feedback and (config.reviewers or config.votes != 1 or config.most_per_reviewer or config.told):
        yield "--reviewers, --votes, --most-per-reviewer and --told choose among feedback: give --feedback"
    yield from least(1, {"--votes": config.votes})
    yield from least(0, {"--most-per-reviewer": config.most_per_reviewer})


def is_path(name: str) -> bool:
    """Whether the name of a model can only be a path: a hub id is one or two names."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def least(bound: int, values: Mapping[str, float]) -> Iterable[str]:
    """What to say of the values, by their flags, that are less, or no numbers."""
    return _outside(values, [flag for flag, value in values.items() if not value >= bound], f"at least {bound}")


def above(bound: int, values: Mapping[str, float]) -> Iterable[str]:
    """Likewise of those that are not more."""
    return _outside(values, [flag for flag, value in values.items() if not value > bound], f"more than {bound}")


def shares(values: Mapping[str, float]) -> Iterable[str]:
    """Likewise of those that are not from 0 to 1."""
    return _outside(values, [flag for flag, value in values.items() if not 0 <= value <= 1], "from 0 to 1")


def _outside(values: Mapping[str, float], flags: Sequence[str], wanted: str) -> Iterable[str]:
    return [f"{flag} is {values[flag]:g}; it must be {wanted}" for flag in flags]
