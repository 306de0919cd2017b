"""Parts as tasks of Ray: on this machine, or on a cluster whose machines see the same files."""

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligner.errors import MissingExtraError, MisuseError
from aligner.sharding.calling import Call, Deaths, Outcome, Part, call, value_of

_OBJECTS = 100_000_000
"""bytes of shared memory for what goes between processes, which is little: rows stay in files"""
_SECONDS_TO_CONNECT = 10.0


def run_on_ray(
    parts: Sequence[Part],
    work: str,
    *,
    workers: int,
    address: str,
    gpus: int,
    on_done: Callable[[Part, object], None],
) -> None:
    """Do parts as tasks of Ray, one task for a part and so many at a time; without an address, Ray is started here.

    Ray's own checkpoints and retries are not used: files say what is done, and a task whose worker died is begun
    again by us, who count the deaths.
    """
    ray = _imported()
    _start(ray, workers=workers, address=address)
    try:
        places = _places(ray.cluster_resources(), gpus)
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(call)
        folder = str(Path.cwd())

        def begin(part: Part, deaths: int) -> Any:
            return task.remote(Call(folder, work, part.task, deaths))

        _do_all(ray, parts, begin, most=workers or places, on_done=on_done)
    finally:
        ray.shutdown()


def _do_all(
    ray: Any,
    parts: Sequence[Part],
    begin: Callable[[Part, int], Any],
    *,
    most: int,
    on_done: Callable[[Part, object], None],
) -> None:
    waiting = deque(map(Deaths, parts))
    running: dict[Any, Deaths] = {}
    while waiting or running:
        while waiting and len(running) < most:
            deaths = waiting.popleft()
            running[begin(deaths.part, deaths.count)] = deaths
        (ended, *_), _ = ray.wait(list(running), num_returns=1)
        deaths = running.pop(ended)
        try:
            outcome: Outcome = ray.get(ended)
        except ray.exceptions.RayError as error:
            deaths.add(type(error).__name__)
            waiting.appendleft(deaths)
        else:
            on_done(deaths.part, value_of(deaths.part, outcome))


def _imported() -> Any:
    # Ray reports to its makers unless told otherwise, and reads that when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError('--engine ray needs Ray: pip install "aligner-llm[ray]"') from error
    return ray


def _start(ray: Any, *, workers: int, address: str) -> None:
    quiet: Mapping[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        cpus = workers or os.cpu_count() or 1
        ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
        return
    try:
        _knock(address)
        ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise MisuseError(f"--ray-address {address}: no cluster of Ray answers there: {said}") from error


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()


def _places(resources: Mapping[str, float], gpus: int) -> int:
    """How many parts fit on a cluster at a time."""
    places = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1)
    if places < 1:
        raise MisuseError("the cluster has no GPU: leave --device cuda out, or take another cluster")
    return int(places)
