"""Peak memory of drafted decoding beside that of `generate`: each arm in a process of its own, the same answers.

    python benchmarks/decoding_memory.py    unchanged and edited answers of 256 and 1,000 tokens, batches of 1 and 4

A figure is the median of three runs, since the allocator keeps more or less of what is freed: what the
process had at its peak beyond what it had before the model was made: weights, cache, activations.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from record import record

WORKLOADS = ("unchanged", "edit3")
SHAPES = ((256, 1), (256, 4), (1000, 1))
REPEATS = 3


def main() -> None:
    """Measure, print a line for each case, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", nargs=4, help="used by the script itself: arm, workload, tokens, batch")
    if (arm := parser.parse_args().arm) is not None:
        print(json.dumps(peak(arm[0], arm[1], int(arm[2]), int(arm[3]))))
        return
    figures: dict[str, Any] = {}
    for workload in WORKLOADS:
        for size, batch in SHAPES:
            case = (workload, size, batch)
            runs = [(in_own_process("ours", *case), in_own_process("greedy", *case)) for _ in range(REPEATS)]
            ours, greedy = (median(column) for column in zip(*runs, strict=True))
            name = f"{workload}_n{size}_batch{batch}"
            print(f"{name}: ours {ours:.0f} MB, generate {greedy:.0f} MB", flush=True)
            figures[f"{name}_vs_greedy"] = round(ours / greedy, 3)
    record("decoding_memory", figures)


def in_own_process(arm: str, workload: str, size: int, batch: int) -> float:
    """The peak of one arm, in MB."""
    command = [sys.executable, __file__, "--arm", arm, workload, str(size), str(batch)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(arm: str, workload: str, size: int, batch: int) -> float:
    """Decode, and tell the megabytes at the peak beyond those before the model was made."""
    import decoding

    from aligner.decoding.blocks import MeasuredBlocks
    from aligner.decoding.costs import Costs
    from aligner.decoding.decoder import Decoder
    from aligner.decoding.packed import packed

    before = resident("VmRSS")
    model = decoding.llama_33m()
    pairs = [decoding.WORKLOADS[workload](Random(i), size) for i in range(batch)]
    if arm == "ours":
        # A fixed curve of costs, so that no measuring of it is part of the peak.
        blocks = MeasuredBlocks(Costs((1, 16, 64, 256), (0.02, 0.035, 0.07, 0.17)))
        decoding.decoded_together(Decoder(packed(model), blocks, batch), pairs, [])
    else:
        decoding.generated_together(model, pairs)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Megabytes of this process, now (VmRSS) or at the most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


if __name__ == "__main__":
    main()
