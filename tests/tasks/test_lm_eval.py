"""lm-evaluation-harness, with our task files, asks what we ask and finds what we find."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from environments import LM_EVAL, python_of
from gateways import variables

from aligner.tasks import answers_of, items_of, task_named
from aligner.testing import Asked, Script, Upstream, serving
from aligner.testing.replies import Wanted, reply, saying

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
LIMIT = 60
"""items of each of the two tasks that have no recorded answers"""

_EVALUATE = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager

folder, url, limits, out = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
given = {"base_url": url + "/v1/chat/completions", "model": "m", "num_concurrent": 16, "max_retries": 1}
given |= {"tokenizer_backend": "None", "tokenized_requests": False, "max_length": 100000}
tasks = TaskManager(include_path=folder, include_defaults=False)
found = {}
for name, limit in limits.items():
    made = lm_eval.simple_evaluate(
        model="local-chat-completions", model_args=given, tasks=[name], task_manager=tasks, limit=limit,
        apply_chat_template=True, bootstrap_iters=0, log_samples=True,
    )
    samples = sorted(made["samples"][name], key=lambda row: row["doc_id"])
    found[name] = {"scores": made["results"][name], "marks": [row["acc"] for row in samples]}
json.dump(found, open(out, "w"))
"""


def said(real_data: Path) -> Mapping[str, Mapping[str, str]]:
    """What an upstream says to each question, task by task: recorded answers, or else the right ones, now and then."""
    answers: dict[str, dict[str, str]] = {}
    for name, folder in (("gsm8k", "gsm8k"), ("xstest", "xstest"), ("math500", "math500"), ("mmlu", "mmlu")):
        items = items_of(task_named(name), real_data / folder)
        if name in ("gsm8k", "xstest"):
            recorded = answers_of(name, real_data / folder, **({"model": "6b_finetuning"} if name == "gsm8k" else {}))
            answers[name] = {str(item.question): recorded[item.id] for item in items}
        else:
            right = (rf"So \boxed{{{item.gold}}}." if name == "math500" else f"Answer: {item.gold}" for item in items)
            pairs = enumerate(zip(items[:LIMIT], right, strict=False))
            answers[name] = {str(item.question): text if i % 3 else "Who knows." for i, (item, text) in pairs}
    return answers


async def evaluated(real_data: Path, folder: Path, answers: Mapping[str, str], limits: Mapping[str, int | None]) -> Any:
    """What the harness finds."""

    def answer(asked: Asked) -> Script:
        wanted = Wanted(asked.path == "/v1/chat/completions", asked.payload)
        return reply(wanted, [saying(wanted, answers[wanted.asked])])

    (folder / "data").symlink_to(real_data)
    python = await asyncio.to_thread(python_of, "lm-eval", LM_EVAL)
    offline = dict.fromkeys(("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE"), "1")
    async with serving(Upstream(answer)) as url:
        process = await asyncio.create_subprocess_exec(
            *(python, "-c", _EVALUATE, ROOT / "evaltasks", url, orjson.dumps(limits).decode(), folder / "found.json"),
            env=variables({**offline, "HF_HOME": str(folder / "hf"), "OPENAI_API_KEY": "k"}),
            cwd=folder,
            stdout=-1,
            stderr=-2,
        )
        words, _ = await process.communicate()
    assert process.returncode == 0, words.decode()[-4000:]
    return orjson.loads((folder / "found.json").read_bytes())


def test_the_harness_finds_what_we_find(real_data: Path, tmp_path: Path) -> None:
    """Item by item, in arithmetic, mathematics, knowledge and refusals, with the same words in every question."""
    answers = said(real_data)
    together = {question: text for texts in answers.values() for question, text in texts.items()}
    limits = {f"aligner_{name}": LIMIT if name in ("math500", "mmlu") else None for name in answers}
    found = asyncio.run(evaluated(real_data, tmp_path, together, limits))
    for name, texts in answers.items():
        task = task_named(name)
        items = [item for item in items_of(task, real_data / name) if item.question in texts]
        assert task.score
        scores = task.score(items, [texts[str(item.question)] for item in items])
        assert found[f"aligner_{name}"]["marks"] == [float(score.right) for score in scores]
    assert sum(found["aligner_gsm8k"]["marks"]) == 286
    assert found["aligner_xstest"]["scores"]["acc_safe,none"] == 237 / 250
