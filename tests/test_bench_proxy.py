"""What the benchmark of the proxy counts with: a process's clock, a body's size, and ratios of medians."""

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import proxy_arms
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_figures import TARGETS, Corrected, Round, figures, table
from proxy_load import request_for

ARMS = ("direct", "relay", "off", "correct", "litellm")


def _round(scale: float, own: float = 1.0) -> Round:
    """A round on a machine that is so many times slower than another, on which every target is met."""
    cpu = {"direct": 0.02, "relay": 0.3, "off": 0.4, "correct": 0.6, "litellm": 9.0}
    latency = {arm: [scale * ms, scale * 3 * ms] for arm, ms in cpu.items()}
    said = [Corrected(total=scale * (0.04 + own) + 7, correct=7.0, overhead=0.1)]
    return Round(
        cpu_ms={arm: scale * ms for arm, ms in cpu.items()},
        chunk_us={arm: scale * 30 for arm in ARMS if arm != "direct"},
        chunk_alone_us={arm: scale * 70 for arm in ARMS if arm != "direct"},
        apart={arm: 1.0 for arm in ARMS if arm != "direct"},
        latency_ms=latency,
        rates={arm: 1000 / (scale * ms) for arm, ms in cpu.items()},
        corrected=said,
    )


def _figures(*rounds: Round) -> dict[str, Any]:
    return figures(rounds, dict.fromkeys(ARMS, 70.0))


@given(st.lists(st.floats(0.5, 4.0), min_size=1, max_size=9))
def test_ratios_do_not_depend_on_the_speed_of_the_machine(scales: list[float]) -> None:
    """However slow the machine is from round to round, ratios of medians stay the same, and times go with it."""
    found = _figures(*map(_round, scales))
    assert (found["litellm_cpu_ratio"], found["rps_vs_bare_relay"]) == (22.5, 0.75)
    assert abs(found["cpu_ms_per_request"] - 0.4 * median(scales)) < 0.001
    assert abs(found["own_ms_correct"] - median(scales)) < 0.001


def test_a_target_is_met_or_named() -> None:
    """Every target that is missed is named, and none besides."""
    good, slow = _figures(_round(1.0)), _figures(_round(3.0, own=1.5))
    assert (good["target_met"], good["missed"]) == (True, [])
    assert not slow["target_met"]
    assert slow["missed"] == ["cpu_ms_per_request", "cpu_us_per_chunk", "own_ms_correct", "added_p50_ms"]
    assert list(good)[: len(TARGETS)] == list(TARGETS)


def test_the_table_has_a_line_for_each_arm() -> None:
    """Every arm stands in the table, a figure that it does not have as a dash."""
    lines = table(_figures(_round(1.0))).splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(ARMS)
    assert lines[0].split()[1:4] == ["0.02", "-", "-"]


def test_the_clock_of_a_process_is_its_own() -> None:
    """What is read of a process from outside is what it reads itself, but for what its other threads are just at."""
    code = (
        "import os, time; from proxy_arms import Arm; end = time.monotonic() + 0.5\n"
        "while time.monotonic() < end: pass\n"
        "print(Arm('this', 0, os.getpid()).cpu_seconds(), time.process_time())"
    )
    benchmarks = str(Path(proxy_arms.__file__).parent)
    read, own = map(float, subprocess.check_output([sys.executable, "-c", code], cwd=benchmarks, text=True).split())
    assert read == pytest.approx(own, abs=0.2)


def test_a_request_has_a_body_of_two_kilobytes() -> None:
    """Whether streamed or not, the body is as long as it is said to be."""
    for streamed in (True, False):
        head, _, body = request_for(8080, streamed=streamed).partition(b"\r\n\r\n")
        assert len(body) == 2048
        assert b"content-length: 2048" in head
