"""What a request costs in the proxy, side by side with a bare relay and with LiteLLM's proxy, in one run.

    python benchmarks/proxy.py           20 rounds
    python benchmarks/proxy.py --quick   6 rounds

Every server is a process of its own on loopback, with one worker, before the same scripted upstream: `direct` is the
upstream itself, `relay` the least that Starlette and aiohttp do, `off` and `correct` are `aligner serve` in those modes
(with an Aligner that changes nothing), `litellm` is LiteLLM's proxy in an environment that is made for it. In each
round they take their turns in random order, at every kind of load:

    in turn    one request after the other: CPU time a request
    streams    16 streams side by side, a chunk of each every millisecond: CPU time a chunk
    a stream   one stream after the other: the same where the process has to wake up for every chunk
    paced      one request each 20 ms: what is added to the latency of the upstream
    at once    32 connections: requests a second

CPU time is user and system of the process, without an engine; a chunk's is what a stream takes beyond a request. In
mode `correct` the proxy's own share is what it adds to the latency of the upstream, less what it says that the
correction took (x-aligner-correct-ms); what it says of its own share (x-aligner-overhead-ms) is told beside it.
Time it with nothing else on the machine; the ratios are of medians within one run.
"""

import argparse
import asyncio
import random
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple, TypeVar

import orjson
import uvloop
from environments import LITELLM
from proxy_arms import Arm, arms, litellm_python
from proxy_figures import Corrected, Round, figures, table
from proxy_load import Answer, at_once, in_turn, side_by_side
from proxy_upstream import CHUNKS
from record import record

T = TypeVar("T")

REQUESTS = 150
STREAMS = 16
SINGLE_STREAMS = 3
PACED = 60
SECONDS_APART = 0.02
CONNECTIONS = 32
SECONDS_AT_ONCE = 1.2
WARM_UP = 60
LONGEST = 60.0
"""seconds of one measurement; a server that hangs ends the benchmark"""


class Cost(NamedTuple):
    """What some requests took."""

    cpu_seconds: float
    answers: Sequence[Answer]

    @property
    def each(self) -> float:
        """Seconds of one of them."""
        return self.cpu_seconds / len(self.answers)


def main() -> None:
    """Measure all arms, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ends within 3 minutes")
    rounds = 6 if parser.parse_args().quick else 20
    litellm = litellm_python()
    # However it is told to end, it ends its servers first: an event loop obeys an interrupt in the right place.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        tempfile.TemporaryDirectory() as folder,
        arms(litellm, Path(folder)) as started,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(warm_up(started))
        measured = [runner.run(one_round(started, random.Random(number))) for number in range(rounds)]
        found = figures(measured, {name: arm.megabytes() for name, arm in started.items()})
    print(table(found), flush=True)
    record("proxy", {"peer": LITELLM[0], "rounds": rounds, **found})


def _interrupt(_: int, __: object) -> None:
    signal.raise_signal(signal.SIGINT)


async def warm_up(started: Mapping[str, Arm]) -> None:
    """Some requests for nothing; raises ValueError where an arm changes what it passes on."""
    wanted = await in_turn(started["direct"].port, 1)
    wanted_stream = await in_turn(started["direct"].port, 1, streamed=True)
    for arm in started.values():
        whole = await in_turn(arm.port, WARM_UP)
        stream = await in_turn(arm.port, 2, streamed=True)
        if arm.name == "litellm":  # which writes the object anew
            same = _text(whole[-1]) == _text(wanted[0]) and stream[-1].body.endswith(b"data: [DONE]\n\n")
        else:
            same = whole[-1].body == wanted[0].body and stream[-1].body == wanted_stream[0].body
        if not same:
            raise ValueError(f"{arm.name} does not give back what the upstream answers")
        await at_once(arm.port, CONNECTIONS, SECONDS_AT_ONCE / 4)


async def one_round(started: Mapping[str, Arm], order: random.Random) -> Round:
    """Every arm under every load, one at a time."""
    proxies = [arm for name, arm in started.items() if name != "direct"]
    everyone = list(started.values())
    asked = await each(everyone, order, lambda arm: cost(arm, in_turn(arm.port, REQUESTS)))
    streams = await each(proxies, order, lambda arm: cost(arm, side_by_side(arm.port, STREAMS)))
    alone = await each(proxies, order, lambda arm: cost(arm, in_turn(arm.port, SINGLE_STREAMS, streamed=True)))
    paced = await each(everyone, order, lambda arm: in_turn(arm.port, PACED, pause=SECONDS_APART))
    rates = await each(everyone, order, lambda arm: at_once(arm.port, CONNECTIONS, SECONDS_AT_ONCE))
    request = {name: taken.each for name, taken in asked.items()}
    return Round(
        cpu_ms={name: 1e3 * seconds for name, seconds in request.items()},
        chunk_us={name: 1e6 * (taken.each - request[name]) / CHUNKS for name, taken in streams.items()},
        chunk_alone_us={name: 1e6 * (taken.each - request[name]) / CHUNKS for name, taken in alone.items()},
        apart={name: mean(answer.pieces for answer in taken.answers) / CHUNKS for name, taken in streams.items()},
        latency_ms={name: [1e3 * answer.seconds for answer in answers] for name, answers in paced.items()},
        rates=rates,
        corrected=[corrected(answer) for answer in paced["correct"]],
    )


async def each(among: Sequence[Arm], order: random.Random, measure: Callable[[Arm], Awaitable[T]]) -> dict[str, T]:
    """A measurement of each arm, in random order; raises TimeoutError where one does not come to its end."""
    found: dict[str, T] = {}
    for arm in order.sample(among, len(among)):
        async with asyncio.timeout(LONGEST):
            found[arm.name] = await measure(arm)
    return found


async def cost(arm: Arm, asking: Awaitable[list[Answer]]) -> Cost:
    """What some requests take of processors in an arm."""
    before = arm.cpu_seconds()
    answers = await asking
    # What it does once its clients have their answers belongs to the requests, too.
    await asyncio.sleep(SECONDS_APART)
    return Cost(arm.cpu_seconds() - before, answers)


def corrected(answer: Answer) -> Corrected:
    """What an answer says about itself."""
    correct, overhead = (float(answer.headers[f"x-aligner-{name}-ms"]) for name in ("correct", "overhead"))
    return Corrected(1e3 * answer.seconds, correct, overhead)


def _text(answer: Answer) -> str:
    return orjson.loads(answer.body)["choices"][0]["message"]["content"]


if __name__ == "__main__":
    main()
