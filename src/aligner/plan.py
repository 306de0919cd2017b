"""What comes before a training: its settings are checked, and `aligner train --plan` says what it would take.

All of it without torch; only what is right and wanted loads what trains.
"""

import sys
from importlib import import_module

from aligner.config import TrainConfig
from aligner.errors import MisuseError
from aligner.planning.checking import check
from aligner.training import launched

_WIDTH = 100
"""columns where the output is no terminal"""


def plan_or_train(config: TrainConfig) -> None:
    """aligner train: say what it would take if that is asked for, or else train."""
    check(config, processes=launched.processes(), sharded=launched.is_sharded())
    if config.plan:
        print_plan(config)
    else:
        import_module("aligner.train").train(config)


def print_plan(config: TrainConfig) -> None:
    """Print the plan; raises MisuseError where there are no triples to plan with."""
    # A mistake is answered before any of this is loaded.
    from rich.console import Console

    from aligner.planning.given import given_triples
    from aligner.planning.machine import this_machine
    from aligner.planning.plan import plan_of
    from aligner.planning.show import shown
    from aligner.planning.times import rate_of

    triples = given_triples(config)
    if not triples:
        raise MisuseError(f"{config.triples or '--feedback'}: a plan needs triples in a file, and there are none")
    plan = plan_of(config, triples, this_machine(config.device, config.out))
    width = None if sys.stdout.isatty() else _WIDTH
    Console(highlight=False, soft_wrap=True, width=width).print(shown(plan, rate_of(plan)))
