"""People who correct answers, in two steps, on a page, and those who look at samples of what they wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

from aligner.building.reviewing.counting import figures, refused
from aligner.config.building import BuildConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["app", "figures", "refused", "serve"]

# Every build counts; only the page itself takes a server.


def app(store_path: Path, config: BuildConfig) -> "Starlette":
    """The review of the build in that file; raises MisuseError where it cannot work. Its lifespan closes the file."""
    from aligner.building.reviewing import listening

    return listening.app(store_path, config)


def serve(config: BuildConfig) -> None:
    """aligner build review: listen until the process is told to end; raises MisuseError where it cannot work."""
    from aligner.building.reviewing import listening

    listening.serve(config)
