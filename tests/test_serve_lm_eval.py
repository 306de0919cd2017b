"""lm-evaluation-harness as a caller: its scores through the proxy are exactly those of the upstream itself."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from environments import LM_EVAL, python_of
from gateways import variables
from programs import running

from aligner.testing import Asked, Script, Upstream, serving
from aligner.testing.replies import Wanted, reply, saying

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

# The harness's own task gsm8k, without examples in the prompt, and with the sign before the result of these models.
_TASK = r"""
task: gsm8k_recorded
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
num_fewshot: 0
generation_kwargs:
  until: ["Question:", "</s>", "<|im_end|>"]
  max_gen_toks: 4096
  do_sample: false
  temperature: 0.0
filter_list:
  - name: strict-match
    filter:
      - {{function: regex, regex_pattern: 'A: (\-?[0-9\.\,]+)'}}
      - {{function: take_first}}
  - name: flexible-extract
    filter:
      - {{function: regex, group_select: -1, regex_pattern: '(-?[$0-9.,]{{2,}})|(-?[0-9]+)'}}
      - {{function: take_first}}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore: [",", '\$', '(?s).*#### ', '\.$']
"""

_EVALUATE = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager

folder, runs, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
tasks = TaskManager(include_path=folder, include_defaults=False)
found = []
for kind, url, model, batch in runs:
    given = {"base_url": url, "model": model, "num_concurrent": 16, "max_retries": 1, "max_length": 100000}
    given |= {"tokenizer_backend": "None", "tokenized_requests": False}
    made = lm_eval.simple_evaluate(
        model=kind, model_args=given, batch_size=batch, tasks=["gsm8k_recorded"], task_manager=tasks,
        apply_chat_template=kind == "local-chat-completions", bootstrap_iters=0, log_samples=True,
    )
    samples = sorted(made["samples"]["gsm8k_recorded"], key=lambda row: (row["doc_id"], row["filter"]))
    found.append({
        "scores": {k: v for k, v in made["results"]["gsm8k_recorded"].items() if k.startswith("exact_match,")},
        "samples": [[row["doc"]["question"], row["filter"], row["exact_match"], row["resps"]] for row in samples],
    })
json.dump(found, open(out, "w"))
"""


class Run(NamedTuple):
    """A model of the harness, the route that it calls, a recorded model, and how many prompts go into one request."""

    kind: str
    path: str
    model: str
    batch: int


RUNS = (
    Run("local-chat-completions", "/v1/chat/completions", "175b_finetuning", 1),
    Run("local-completions", "/v1/completions", "6b_finetuning", 8),
)


def recorded(rows: Mapping[str, Any]) -> Upstream:
    """An upstream that says of each question what the model of that name once said."""

    def answer(asked: Asked) -> Script:
        wanted = Wanted(asked.path == "/v1/chat/completions", asked.payload)
        prompt = wanted.payload.get("prompt")
        questions = prompt if isinstance(prompt, list) else [wanted.asked]
        said = [rows[question][wanted.payload["model"]]["solution"] for question in questions]
        return reply(wanted, [saying(wanted, solution) for solution in said])

    return Upstream(answer)


async def evaluated(folder: Path, urls: list[str]) -> list[Any]:
    """What the harness finds in each run at each URL, in one process of its own."""
    out = folder / "found.json"
    runs = [(run.kind, url + run.path, run.model, run.batch) for run in RUNS for url in urls]
    python = await asyncio.to_thread(python_of, "lm-eval", LM_EVAL)
    process = await asyncio.create_subprocess_exec(
        python,
        "-c",
        _EVALUATE,
        folder,
        orjson.dumps(runs).decode(),
        out,
        env=variables({**_OFFLINE, "HF_HOME": str(folder / "hf"), "OPENAI_API_KEY": "k"}),
        stdout=-1,
        stderr=-2,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-4000:]
    return orjson.loads(out.read_bytes())


def test_the_harness_gives_a_model_the_same_score_through_the_proxy(real_data: Path, tmp_path: Path) -> None:
    """Question by question, in chats and in texts; and it is the score that the recorded verdicts add up to."""
    lines = (real_data / "gsm8k" / "recorded_answers.jsonl").read_bytes().splitlines()
    rows = {row["question"]: row for row in map(orjson.loads, lines)}
    (tmp_path / "gsm8k.yaml").write_text(_TASK.format(questions=real_data / "gsm8k" / "test.jsonl"), encoding="utf-8")

    async def law() -> tuple[list[Any], int]:
        async with AsyncExitStack() as stack:
            upstream = recorded(rows)
            url = await stack.enter_async_context(serving(upstream))
            proxy = await stack.enter_async_context(running(url, tmp_path))
            return await evaluated(tmp_path, [url, proxy.url]), upstream.count

    found, count = asyncio.run(law())
    assert count == sum(2 * -(-len(rows) // run.batch) for run in RUNS)
    for run, direct, through in zip(RUNS, found[::2], found[1::2], strict=True):
        assert through == direct
        right = sum(row[run.model]["is_correct"] for row in rows.values())
        assert direct["scores"] == {
            "exact_match,strict-match": right / len(rows),
            "exact_match,flexible-extract": right / len(rows),
        }
        assert len(direct["samples"]) == 2 * len(rows)
        for question, _, verdict, said in direct["samples"]:
            assert said == [[rows[question][run.model]["solution"]]]
            assert verdict == rows[question][run.model]["is_correct"]
