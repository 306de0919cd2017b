"""Several processes that train one model: which one writes, who waits for it, and how all come to know what it decided.

Processes are started by torchrun or accelerate, which tell each its place. Without them there is one: it never waits.
"""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from aligner.errors import MisuseError
from aligner.training.launched import is_main
from aligner.training.launched import processes as count

__all__ = ["count", "is_main", "main_first", "share_of", "told_by_main", "wait"]

T = TypeVar("T")
_LONGEST_WAIT = timedelta(days=7)


def wait() -> None:
    """Wait until all processes have come this far."""
    if count() > 1:
        _join()
        distributed.all_reduce(torch.zeros(1))


def told_by_main(decide: Callable[[], T]) -> T:
    """What the main process decides, in all of them; the others wait, and an error of the main one is raised in all."""
    if count() == 1:
        return decide()
    _join()
    said: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_main():
        try:
            said = [(decide(), None)]
        except Exception as error:  # noqa: BLE001  # raised below, in every process
            said = [(None, error)]
    distributed.broadcast_object_list(said, src=0, device=torch.device("cpu"))
    ((result, error),) = said
    if error is not None:
        raise error
    return result  # pyright: ignore[reportReturnType]  # there is a result wherever there is no error


def main_first(work: Callable[[], T]) -> T:
    """The same work in all processes, in the main one before the others: they find what it has written."""
    if is_main():
        result = work()
        wait()
        return result
    wait()
    return work()


def share_of(batches: int) -> int:
    """Of the batches of a step those of one process; raises MisuseError where they cannot be shared out evenly."""
    if batches % count():
        raise MisuseError(
            f"accumulate = {batches}: the batches of a step are shared out among {count()} processes; "
            f"choose a multiple of {count()}"
        )
    return batches // count()


def _join() -> None:
    """Meet the other processes; what is said between them goes over the CPU, whatever the gradients go over."""
    if distributed.is_initialized():
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpus = local < torch.cuda.device_count() and os.environ.get("ACCELERATE_USE_CPU", "false") != "true"
    if on_gpus:
        torch.cuda.set_device(local)
    # The others wait while the main one samples, asks judges and measures, which may take hours.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=_LONGEST_WAIT)
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
