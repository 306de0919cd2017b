"""How fast `aligner correct` moves rows, and how much memory it holds, with an Aligner that changes nothing.

    python benchmarks/correct_throughput.py           1,000,000 rows
    python benchmarks/correct_throughput.py --quick   100,000 rows

The peer is the least that any program must do with the same rows: parse each, and write it with the same fields.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from record import record

ROWS = 1_000_000
TARGET_ROWS_PER_SECOND = 10_000
TARGET_MEGABYTES = 300
SECONDS_BETWEEN_SAMPLES = 0.1
PEER = """
import sys, orjson
with open(sys.argv[1], "rb") as rows, open(sys.argv[2], "wb") as out:
    for line in rows:
        row = orjson.loads(line)
        row["correction"], row["changed"], row["kept_reason"] = row["answer"], False, None
        out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
"""


class Run(NamedTuple):
    """One command from start to end."""

    seconds: float
    cpu_seconds: float
    """of user and system together, which other work on the machine lengthens less"""
    megabytes: list[float]
    """resident memory, sampled over time"""


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    count = ROWS // 10 if parser.parse_args().quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        rows, out, peer_out = (Path(folder) / name for name in ("rows.jsonl", "out.jsonl", "peer.jsonl"))
        write_answers(rows, count)
        # The peer comes first: the largest process so far is then that of `aligner correct`.
        peer = watched([sys.executable, "-c", PEER, str(rows), str(peer_out)])
        ours = watched([sys.executable, "-m", "aligner", "correct", str(rows), "--aligner", "echo:", "--out", str(out)])
        same = out.read_bytes() == peer_out.read_bytes()
    record("correct_throughput", figures(count, ours, peer, same=same))


def write_answers(path: Path, count: int) -> None:
    """A file of answers, of about 300 bytes a row."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            answer = f"There are {i % 97} of them: " + "one after the other, " * (i % 17) + "and that is all."
            file.write(
                f'{{"id":"row-{i}","question":"How many are there in box {i}?","answer":"{answer}","model":"m"}}\n'
            )


def watched(command: list[str]) -> Run:
    """Run a command to its end while its memory is watched."""
    start, cpu, samples = time.monotonic(), cpu_seconds_of_children(), list[float]()
    process = subprocess.Popen(command)
    while process.poll() is None:
        samples += resident_megabytes(process.pid)
        time.sleep(SECONDS_BETWEEN_SAMPLES)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return Run(time.monotonic() - start, cpu_seconds_of_children() - cpu, samples)


def cpu_seconds_of_children() -> float:
    """What the commands that have ended took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def resident_megabytes(pid: int) -> list[float]:
    """The memory of a process, or nothing when it has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return []
    return [pages * resource.getpagesize() / 2**20] if pages else []


def figures(count: int, ours: Run, peer: Run, *, same: bool) -> dict[str, object]:
    """What the two runs show."""
    quarter = len(ours.megabytes) // 4
    second, last = ours.megabytes[quarter : 2 * quarter], ours.megabytes[3 * quarter :]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rate = count / ours.seconds
    return {
        "rows": count,
        "rows_per_second": round(rate),
        "rows_per_cpu_second": round(count / ours.cpu_seconds),
        "peak_megabytes": round(peak, 1),
        "last_quarter_to_second_quarter": round(median(last) / median(second), 3),
        "peer_rows_per_second": round(count / peer.seconds),
        "peer_rows_per_cpu_second": round(count / peer.cpu_seconds),
        "peer_megabytes": round(max(peer.megabytes), 1),
        "times_the_peers_time": round(ours.seconds / peer.seconds, 2),
        "same_output_as_peer": same,
        "target_met": rate >= TARGET_ROWS_PER_SECOND and peak < TARGET_MEGABYTES,
    }


if __name__ == "__main__":
    main()
