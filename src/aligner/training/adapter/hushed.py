"""A warning that says nothing to those who train: two libraries of theirs name one thing differently."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def hushed() -> Generator[None]:
    """While it lasts, peft 0.21 and TRL may ask transformers 5.23 by an older name without a warning about that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
