"""Commands that stand in for the real ones, to see what the command line makes of what they do."""

import time

from aligner.config import CorrectConfig
from aligner.errors import MisuseError
from aligner.errors import bad_row as row_error


def show(config: object) -> None:
    """Print the configuration."""
    print(repr(config))


def bad_row(config: CorrectConfig) -> None:
    """Find a row that cannot be used, and say so on two lines."""
    raise row_error(config.answers or "", 17, 'no "answer"\nand nothing else')


def disk_full(config: CorrectConfig) -> None:
    """Fail as the operating system says it."""
    raise OSError(28, "No space left on device", str(config.out))


def no_connection(_: CorrectConfig) -> None:
    """Fail without a file."""
    raise ConnectionError("nobody listens")


def misuse(_: CorrectConfig) -> None:
    """Refuse what each flag alone allows."""
    raise MisuseError("--answers and --answer exclude each other")


def interrupted(_: CorrectConfig) -> None:
    """Be stopped by the user."""
    raise KeyboardInterrupt


def wait(_: CorrectConfig) -> None:
    """Work on for longer than anybody waits."""
    print("waiting", flush=True)
    time.sleep(600)


def flood(_: CorrectConfig) -> None:
    """Print for as long as somebody reads."""
    while True:
        print("flood")
