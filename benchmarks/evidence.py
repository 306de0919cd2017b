"""Known answers: what evaluation says where the truth is known beforehand.

python benchmarks/evidence.py           real data in ALIGNER_REAL_DATA, or in ../shared/data
python benchmarks/evidence.py --quick   the same, in less than 50 seconds
"""

import argparse
import csv
import gzip
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
from record import record

from aligner.config import EvaluateConfig, EvaluatedTask, EvaluatedUpstream
from aligner.evaluate import found_out
from aligner.evaluating.report import Report
from aligner.scoring.lengths import Column, length_controlled
from aligner.scoring.overlap import overlap_by_prompt
from aligner.tasks import answers_of, items_of, task_named
from aligner.world.questions import read_question
from aligner.world.rows import good_answer

_ALPACA_EVAL = {"FuseChat-Gemma-2-9B-Instruct": 69.91, "gpt-3.5-turbo-1106": 22.63, "claude-2.1": 27.94}
"""what alpaca_eval 0.6.6's own regression gives"""
_UPSTREAMS = ("careless", "boastful", "mocking")
"""of the closed world, whose flawed answers tell what they answer, so that rules can mend them"""
_CORRECTOR, _UPSTREAM = "aligner-2b_gpt-4-turbo-2024-04-09", "gpt-4-turbo-2024-04-09"
_ENTRIES = ("alpaca-7b", "gpt-4o-2024-05-13", "gpt4_0613", "gpt4_1106_preview", _UPSTREAM)


def main() -> None:
    """Measure, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer questions of the closed world")
    arguments = parser.parse_args()
    data = Path(os.environ.get("ALIGNER_REAL_DATA") or "../shared/data")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        figures = {
            **gsm8k(data / "gsm8k", out),
            **closed_world(out, 100 if arguments.quick else 1000),
            **overlap(data / "alpaca_eval" / "model_outputs"),
            "lc_error": length_error(data / "alpaca_eval"),
        }
    record("evidence", figures)


def gsm8k(data: Path, out: Path) -> Mapping[str, float]:
    """Answers of two recorded models that are right, with an Aligner that copies."""
    items = items_of(task_named("gsm8k"), data / "test.jsonl")
    upstreams: list[EvaluatedUpstream] = []
    for model in ("6b_finetuning", "175b_finetuning"):
        answers = answers_of("gsm8k", data / "recorded_answers.jsonl", model=model)
        path = out / f"{model}.jsonl"
        path.write_text("".join(json.dumps({"question": i.question, "answer": answers[i.id]}) + "\n" for i in items))
        upstreams.append(EvaluatedUpstream(name=model, model=f"replay:{path}"))
    task = EvaluatedTask(task="gsm8k", path=str(data / "test.jsonl"))
    found = found_out(
        EvaluateConfig(out=out / "gsm8k", aligner="echo:", upstreams=tuple(upstreams), tasks=(task,), device="cpu")
    )
    six, hundred = found.evidence.marked
    return {"gsm8k_6b": six.pairs.before, "gsm8k_175b": hundred.pairs.before}


def closed_world(out: Path, count: int) -> Mapping[str, float]:
    """Net rates of an Aligner that copies, and, on flawed answers, of one that is right by construction."""
    before = _world(out / "noop", "echo:", count)
    after = _world(out / "rules", f"rules:{_right_by_construction(out, before)}", count)
    flawed = [case for case in after.cases if case.before is not None and not case.before.right]
    return {
        "noop_net": max((abs(row.net.value) for row in before.evidence.judged), default=0.0),
        "noop_untouched": min(row.untouched for row in before.evidence.edited),
        "rules_net": sum(case.fixed - case.broken for case in flawed) / len(flawed),
        "rules_broken": sum(case.broken for case in after.cases),
        "flawed_share": len(flawed) / len(after.cases),
        "rules_gain": sum(case.fixed - case.broken for case in after.cases) / len(after.cases),
    }


def _world(out: Path, aligner: str, count: int) -> Report:
    upstreams = tuple(EvaluatedUpstream(name=n, model=f"world:{n}") for n in _UPSTREAMS)
    task = EvaluatedTask(task="world", path="world", sample=count)
    return found_out(
        EvaluateConfig(out=out, aligner=aligner, upstreams=upstreams, tasks=(task,), judges=("world:",), device="cpu")
    )


def _right_by_construction(out: Path, report: Report) -> Path:
    """Rules that make a good answer of each flawed one."""
    rules: dict[str, str] = {}
    for case in report.cases:
        if case.before is not None and not case.before.right and (asked := read_question(str(case.question))):
            rules[rf"\A{re.escape(case.answer)}\Z"] = good_answer(Random(case.item), asked).text.replace("\\", r"\\")
    path = out / "rules.json"
    path.write_text(json.dumps([{"pattern": pattern, "replace": text} for pattern, text in rules.items()]))
    return path


def overlap(folder: Path) -> Mapping[str, float]:
    """Answers of the published entry that stand in another entry, and the largest share among ordinary entries."""
    texts = {
        name: [str(row["output"]) for row in json.loads((folder / f"{name}.json").read_text())]
        for name in (*_ENTRIES, _CORRECTOR)
    }

    def flagged(name: str, upstream: str) -> tuple[int, int]:
        others = {n: texts[n] for n in texts if n not in (name, upstream, _CORRECTOR)}
        found = overlap_by_prompt(texts[name], texts[upstream], others)
        return len(found.flagged), found.counted

    count, counted = flagged(_CORRECTOR, _UPSTREAM)
    ordinary = [flagged(name, name) for name in _ENTRIES]
    return {
        "overlap_flagged": count,
        "overlap_counted": counted,
        "overlap_ordinary": max(found / total for found, total in ordinary),
    }


def length_error(folder: Path) -> float:
    """The largest difference of length-controlled rates from those of alpaca_eval's own regression, in points."""
    difficulty = np.load(folder / "derived_instruction_difficulty_refit.npy")
    by_model = defaultdict[str, list[Mapping[str, str]]](list)
    with gzip.open(folder / "derived_annotations_57models.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            by_model[row["model"]].append(row)
    return max(abs(_controlled(by_model[model], difficulty) - rate) for model, rate in _ALPACA_EVAL.items())


def _controlled(rows: Sequence[Mapping[str, str]], difficulty: Column) -> float:
    preference, own, other = (
        np.array([float(row[name]) for row in rows]) for name in ("preference", "len_model", "len_baseline")
    )
    return length_controlled(preference, own, other, difficulty[[int(row["prompt_index"]) for row in rows]]).controlled


if __name__ == "__main__":
    main()
