"""What of a configuration can be known to be wrong before anything is asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aligner.building.against import sets_of
from aligner.building.bounds import check_numbers
from aligner.building.principles import load
from aligner.building.sources import files_of, name_of, named
from aligner.building.verdicts import JUDGE, token_counter
from aligner.config import BuildAnnotator, BuildConfig, BuildUpstream
from aligner.errors import MisuseError, unknown
from aligner.models import BACK_ENDS
from aligner.prompts import RUBRICS, editor_named
from aligner.templates import template_named

HUMAN, ALIGNER = "human", "aligner"
_OWN_WAYS = (HUMAN, ALIGNER)
_LOOKING = frozenset({"all", "questions", "verdicts"})
"""stages that need evaluation sets; the tokenizer is read for the last one"""
_JUDGES = ("truth", "reward", "refusal", "world")
"""judges that are no model"""


def check(config: BuildConfig) -> None:
    """Raise MisuseError, one line with its cure, for what cannot become a build."""
    if not config.sources:
        raise MisuseError("no sources: say where questions come from, under [[sources]] in the file of --config")
    sources = named(config.sources)
    for source in config.sources:
        if not source.path.startswith("hub:"):
            files_of(source)
    _check_names(config, list(sources))
    _check_askers(config)
    for model in config.upstreams:
        _check_model(f'upstream "{model.name}"', model, BACK_ENDS)
    for model in config.annotators:
        _check_model(f'annotator "{model.name}"', model, [*BACK_ENDS, *_OWN_WAYS])
        editor_named(model.prompt)
    check_numbers(config)
    load(config.principles)
    template_named(config.filters.template)
    _check_judge(config)
    if config.stage in _LOOKING:
        sets_of(config.against)
        token_counter(config.filters.tokenizer, config.filters.template)


def way_of(model: BuildUpstream | BuildAnnotator) -> str:
    """How a model is reached: live, batch, files, human or aligner."""
    prefix = model.model.partition(":")[0]
    return prefix if prefix in _OWN_WAYS else model.calling


def _check_names(config: BuildConfig, sources: Sequence[str]) -> None:
    """Rows say by these names where they come from, so nothing else may have the same."""
    met = {JUDGE: "the judge", **dict.fromkeys(sources, "a source")}
    for kind, models in (("an upstream", config.upstreams), ("an annotator", config.annotators)):
        for model in models:
            if not model.name.strip():
                raise MisuseError(f"{kind} has no name; give it one")
            if model.name in met:
                raise MisuseError(f'the name "{model.name}" is taken by {met[model.name]}: call {kind} otherwise')
            met[model.name] = kind


def _check_askers(config: BuildConfig) -> None:
    """Whether there is somebody to ask in the stages that ask."""
    takes = {name_of(source): source.takes for source in config.sources}
    asking = next((name for name, kind in takes.items() if kind == "questions"), None)
    if asking and not config.upstreams and config.stage in {"all", "answers"}:
        raise MisuseError(f'no upstreams: nobody answers the questions of "{asking}"; name some under [[upstreams]]')
    unfinished = next((name for name, kind in takes.items() if kind != "triples"), None)
    if unfinished and not config.annotators and config.stage in {"all", "corrections", "review"}:
        raise MisuseError(
            f'no annotators: nobody corrects the answers of "{unfinished}"; name some under [[annotators]]'
        )


def _check_model(what: str, model: BuildUpstream | BuildAnnotator, known: Sequence[str] | Mapping[str, str]) -> None:
    prefix, colon, _ = model.model.partition(":")
    if not colon or prefix not in known:
        raise unknown(f"model of the {what}", model.model, [f"{name}:" for name in known])
    if model.calling == "batch" and prefix != "openai":
        raise MisuseError(f'{what}: calling = "batch" is for openai:MODEL alone, not for {prefix}:')


def _check_judge(config: BuildConfig) -> None:
    """Whether there is such a judge; the judge itself is loaded when it is needed."""
    if not config.judge:
        return
    prefix, _, rest = config.judge.partition(":")
    model = rest if prefix in RUBRICS else config.judge
    if prefix not in _JUDGES and model.partition(":")[0] not in BACK_ENDS:
        raise unknown("judge", config.judge, [f"{known}:" for known in dict.fromkeys((*_JUDGES, *BACK_ENDS, *RUBRICS))])
    if prefix == "truth" and not Path(rest).is_dir():
        raise MisuseError(f"judge: {rest}: no such folder")
