"""A study as one page of HTML that loads nothing, runs nothing, and in which names are only read."""

from collections.abc import Sequence
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader

from aligner.bootstrapping.curves import drawn, swatch
from aligner.bootstrapping.gains import Told
from aligner.bootstrapping.panels import main_chart, panels
from aligner.bootstrapping.rounds import ArmShown
from aligner.bootstrapping.wording import Table
from aligner.config.bootstrapping import BootstrapConfig
from aligner.evaluating.page import environment
from aligner.evaluating.tables import CLOSED_WORLD

_MANY = 12
"""rows of a table above which it is folded"""


def page(
    config: BootstrapConfig, arms: Sequence[ArmShown], told: Sequence[Told], tables: Sequence[Table], *, oracle: bool
) -> str:
    """The page; the same rounds give the same text."""
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            config=config,
            told=told,
            tables=tables,
            legend=[(shown.arm.name, swatch(place)) for place, shown in enumerate(arms)],
            main=main_chart(arms, config.guards, oracle=oracle),
            panels=list(panels(arms, config.guards)),
            many=_MANY,
            rounds=sum(len(shown.rounds) for shown in arms),
            closed_world=CLOSED_WORLD if config.oracle == "world" else "",
        )
    )


def picture(config: BootstrapConfig, arms: Sequence[ArmShown], *, oracle: bool) -> str:
    """The curves of the study as a picture of their own, in SVG."""
    environment = _environment()
    return environment.get_template("curves.svg.jinja").render(
        main=main_chart(arms, config.guards, oracle=oracle),
        legend=[(shown.arm.name, swatch(place)) for place, shown in enumerate(arms)],
        closed_world=config.oracle == "world",
    )


@cache
def _environment() -> Environment:
    ours, shared = PackageLoader("aligner.bootstrapping"), PackageLoader("aligner.evaluating")
    return environment(ChoiceLoader([ours, PrefixLoader({"evaluating": shared})]), drawn=drawn)
