"""Laws of evaluation, with real models, a real oracle and real files."""

import asyncio
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from arithmetic import rules_for

from aligner.config import EvaluateConfig, EvaluatedTask, EvaluatedUpstream
from aligner.errors import InputFileError, MisuseError, ModelError
from aligner.evaluate import MissedBarError, evaluate, found_out
from aligner.evaluating.figures import evidence_of
from aligner.evaluating.report import Report
from aligner.tasks import Score, items_of, task_named
from aligner.testing import Asked, Script, Upstream, by_model, serving
from aligner.testing.script import refusal
from aligner.world.profiles import PROFILES

WORLD = EvaluatedTask(task="world", path="world", sample=40)
CARELESS = EvaluatedUpstream(name="careless", model="world:careless")
RECKLESS = EvaluatedUpstream(name="reckless", model="world:reckless")


def config(out: Path, **fields: Any) -> EvaluateConfig:
    """Two upstreams of the closed world, judged by its oracle, and an Aligner that copies."""
    usual: dict[str, Any] = {
        "aligner": "echo:",
        "upstreams": (CARELESS, RECKLESS),
        "tasks": (WORLD,),
        "judges": ("world:",),
        "device": "cpu",
    }
    return EvaluateConfig(out=out, **(usual | fields))


def without_times(folder: Path) -> Any:
    """The report as JSON, but for what was measured by a clock."""
    found = json.loads((folder / "report.json").read_text())
    return {name: value for name, value in found.items() if name != "timed"}


def by_construction(out: Path, report: Report) -> str:
    """An Aligner that makes of each flawed answer in a report what its upstream's perfect editor would."""
    from aligner.world.oracle import mark
    from aligner.world.questions import read_question
    from aligner.world.rows import good_answer

    rules: list[dict[str, str]] = []
    for case in report.cases:
        asked = read_question(str(case.question))
        assert asked is not None
        assert case.before is not None
        if not case.before.right:
            good = good_answer(Random(case.item), asked).text
            assert mark(asked, good).good
            rules.append({"pattern": rf"\A{re.escape(case.answer)}\Z", "replace": good.replace("\\", r"\\")})
    path = out / "rules.json"
    path.write_text(json.dumps(rules))
    return f"rules:{path}"


def test_an_aligner_that_copies_fixes_and_breaks_nothing(tmp_path: Path) -> None:
    """Net rate 0 for every upstream and quality, nothing fixed, nothing broken, all untouched."""
    evidence = found_out(config(tmp_path)).evidence
    assert [(row.wins, row.losses, row.ties) for row in evidence.judged] == [(0, 0, 40)] * 6
    assert all(row.net == (0, 0, 0) for row in evidence.judged)
    assert [(row.pairs.fixed, row.pairs.broken) for row in evidence.marked] == [(0, 0), (0, 0)]
    assert all(row.untouched == 1 for row in evidence.edited)


def test_an_aligner_that_is_right_by_construction_is_found_to_be_right(tmp_path: Path) -> None:
    """Every flaw is fixed and nothing broken; the gain is the share of flawed answers, and 1 on those alone."""
    before = found_out(config(tmp_path / "before"))
    aligner = by_construction(tmp_path, before)
    report = found_out(config(tmp_path / "after", aligner=aligner))
    for row, old in zip(report.evidence.marked, before.evidence.marked, strict=True):
        flawed = old.pairs.both_wrong
        assert flawed > 0
        assert (row.pairs.fixed, row.pairs.broken, row.pairs.both_wrong) == (flawed, 0, 0)
        assert row.gain.value == pytest.approx(flawed / row.pairs.total)
    flawed_cases = [case for case in report.cases if case.before is not None and not case.before.right]
    assert all(case.fixed for case in flawed_cases)
    assert all(opinion.preference >= 0.5 for case in report.cases for opinion in case.opinions)


def test_the_same_run_again_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    """Everything is kept in the folder; the report comes out the same, times apart."""
    evaluate(config(tmp_path))
    first, kept = without_times(tmp_path), (tmp_path / "answers.jsonl").read_bytes()
    evaluate(config(tmp_path))
    assert without_times(tmp_path) == first
    assert (tmp_path / "answers.jsonl").read_bytes() == kept
    for name in ("report.html", "report.csv", "report.md"):
        assert (tmp_path / name).stat().st_size > 0


def test_a_line_that_a_kill_cut_off_is_asked_again(tmp_path: Path) -> None:
    """And one that is something else is named."""
    evaluate(config(tmp_path))
    first, path = without_times(tmp_path), tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    evaluate(config(tmp_path))
    assert without_times(tmp_path) == first
    path.write_bytes(b"[]\n" + path.read_bytes())
    with pytest.raises(InputFileError, match=r"answers\.jsonl:1: is no finding of an evaluation"):
        evaluate(config(tmp_path))


def test_bars_decide_about_the_exit(tmp_path: Path) -> None:
    """A net rate below the bar is an error that names it; the report is written all the same."""
    with pytest.raises(MissedBarError, match="net"):
        evaluate(config(tmp_path, min_net=0.5))
    assert (tmp_path / "report.html").exists()
    evaluate(config(tmp_path, min_net=0.0, max_broken=0))


def test_nothing_to_evaluate_is_misuse(tmp_path: Path) -> None:
    """Upstreams and tasks have to be named, and tasks by their names."""
    with pytest.raises(MisuseError, match=r"\[\[upstreams\]\]"):
        evaluate(config(tmp_path, tasks=()))
    with pytest.raises(MisuseError, match="gsm8k"):
        evaluate(config(tmp_path, tasks=(EvaluatedTask(task="gsm8", path="x"),)))


def test_judges_are_held_against_one_another(tmp_path: Path) -> None:
    """Two judges who say the same agree fully, and of equal answers nobody has to say anything."""
    aligner = by_construction(tmp_path, found_out(config(tmp_path / "before")))
    folder = tmp_path / "after"
    evaluate(config(folder, aligner=aligner, judges=("world:", "refusal:")))
    evidence = evidence_of(json.loads((folder / "report.json").read_text()))
    (agreed,) = evidence.agreed
    assert (agreed.task, agreed.quality, agreed.judges) == ("world", "helpful", ("the oracle", "refusal rules"))
    assert 0 < agreed.pairs < 80
    assert 0 <= agreed.same <= 1
    assert "How far judges agree" in (folder / "report.html").read_text()


def test_answers_that_come_from_elsewhere_are_counted(tmp_path: Path) -> None:
    """Corrections that stand in other answers are told, by the set where they stand."""
    said = " ".join(f"word{number}" for number in range(40))
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"pattern": r"\A(?s:.*)\Z", "replace": said}]))
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"question": "any", "answer": f"Before. {said} After."}) + "\n")
    report = found_out(config(tmp_path, aligner=f"rules:{rules}", others=(str(other),), judges=()))
    assert [(row.counted, row.flagged, row.copied, row.sources) for row in report.overlaps] == [
        (40, 40, 0, {str(other): 40})
    ] * 2


def replayed(folder: Path, **answers: str) -> EvaluatedUpstream:
    """Recorded answers to questions of the closed world's first items, each by the number of its item."""
    items = {item.id: item for item in items_of(task_named("world"), "world")}
    rows = [{"question": items[number[1:]].question, "answer": answer} for number, answer in answers.items()]
    path = folder / "recorded.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluatedUpstream(name="recorded", model=f"replay:{path}")


def code(folder: Path, test: str) -> EvaluatedTask:
    """One task of MBPP with one test."""
    row = {"text": "Write f.", "code": "def f(): return 1", "task_id": 11, "test_setup_code": "", "test_list": [test]}
    path = folder / "mbpp.jsonl"
    path.write_text(json.dumps({**row, "challenge_test_list": []}) + "\n")
    return EvaluatedTask(task="mbpp", path=str(path))


def test_what_decides_about_a_finding_is_part_of_its_key(tmp_path: Path) -> None:
    """Another recording under the same name is asked anew, and another test of the same item marks anew."""
    world = EvaluatedTask(task="world", path="world", sample=1)
    (item,) = items_of(task_named("world"), "world", sample=1)
    said: list[str] = []
    for answer in ("One.", "Two."):
        upstream = replayed(tmp_path, **{f"i{item.id}": answer})
        said += [case.answer for case in found_out(config(tmp_path, upstreams=(upstream,), tasks=(world,))).cases]
    assert said == ["One.", "Two."]
    echo = EvaluatedUpstream(name="echo", model="echo:")
    right: list[bool] = []
    for test in ("assert 1 == 2", "assert 1 == 1"):
        task = code(tmp_path, test)
        rules = tmp_path / "rules.json"
        rules.write_text(json.dumps([{"pattern": r"(?s)\A.*\Z", "replace": "def f(): return 1"}]))
        run = config(tmp_path, aligner=f"rules:{rules}", upstreams=(echo,), tasks=(task,), judges=())
        (case,) = found_out(run).cases
        assert case.after is not None
        right.append(case.after.right)
    assert right == [False, True]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"upstreams": (CARELESS, CARELESS)}, 'the upstream "careless" is named twice'),
        ({"tasks": (WORLD, WORLD)}, 'the task "world" is named twice'),
        ({"judges": ("world:", "world:")}, 'the judge "world:" is named twice'),
        (
            {"tasks": (EvaluatedTask(task="world", path="world", qualities=("helpfull",)),)},
            'quality of world "helpfull"',
        ),
        ({"tasks": (EvaluatedTask(task="world", path="world", qualities=("empathetic",)),)}, "the oracle judges"),
        ({"batch": 0}, "--batch and --at-a-time begin at 1"),
        ({"compare": (Path("report.json"),)}, "--compare takes two reports"),
    ],
)
def test_what_cannot_work_is_one_clear_line(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    """Before anything is asked."""
    with pytest.raises(MisuseError, match=re.escape(problem)):
        evaluate(config(tmp_path, **fields))
    assert not (tmp_path / "answers.jsonl").exists()


def test_one_question_that_a_server_refuses_is_counted_and_no_end(tmp_path: Path) -> None:
    """A filter's 400 leaves one answer empty and uncorrected; one that refuses all ends the run."""
    (first, *_) = items_of(task_named("world"), "world", sample=5)

    def filtered(asked: Asked) -> Script:
        refuses = refuses_all or asked.payload["messages"][-1]["content"] == first.question
        return refusal(400, "filtered", "content_filter") if refuses else by_model()(asked)

    async def check() -> list[str]:
        async with serving(Upstream(filtered)) as url:
            upstream = EvaluatedUpstream(name="filtered", model=f"openai:unchanged@{url}/v1")
            world = EvaluatedTask(task="world", path="world", sample=5)
            run = config(tmp_path, upstreams=(upstream,), tasks=(world,), judges=())
            return [str(case.kept_reason) for case in (await asyncio.to_thread(found_out, run)).cases]

    refuses_all = True
    with pytest.raises(ModelError, match="the server refuses every question"):
        asyncio.run(check())
    refuses_all = False
    assert sorted(asyncio.run(check())) == ["None"] * 4 + ["refused by its server"]


def test_what_was_thought_is_no_answer(tmp_path: Path) -> None:
    """It stays as it is before the correction of what stands behind it, as behind the proxy."""
    (item,) = items_of(task_named("world"), "world", sample=1)
    upstream = replayed(tmp_path, **{f"i{item.id}": "<think>Lyon?</think>\n\nIt is Lyon."})
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"pattern": "Lyon", "replace": "Paris"}]))
    world = EvaluatedTask(task="world", path="world", sample=1)
    run = config(tmp_path, aligner=f"rules:{rules}", upstreams=(upstream,), tasks=(world,), judges=())
    assert [case.correction for case in found_out(run).cases] == ["<think>Lyon?</think>\n\nIt is Paris."]


def recorded(real_data: Path, folder: Path, model: str) -> EvaluatedUpstream:
    """A real model's recorded answers as an upstream."""
    from aligner.tasks import answers_of

    items = items_of(task_named("gsm8k"), real_data / "gsm8k" / "test.jsonl")
    answers = answers_of("gsm8k", real_data / "gsm8k" / "recorded_answers.jsonl", model=model)
    path = folder / f"{model}.jsonl"
    path.write_text("".join(json.dumps({"question": i.question, "answer": answers[i.id]}) + "\n" for i in items))
    return EvaluatedUpstream(name=model, model=f"replay:{path}")


@pytest.mark.slow
def test_two_recorded_models_are_as_right_as_they_were(real_data: Path, tmp_path: Path) -> None:
    """286 and 458 of 1,319 before correction; an Aligner that does sums again fixes one answer, and breaks none.

    Each of the 13 answers that it changes was read by hand. Both models had a calculator, and in all but one the
    mistake is what was reckoned, and not how: question 518 says 20*(3/5)=12.5 and so 32.5, where 12 and 32 are right.
    """
    models = ("6b_finetuning", "175b_finetuning")
    upstreams = tuple(recorded(real_data, tmp_path, model) for model in models)
    rows = [json.loads(line) for line in (real_data / "gsm8k" / "recorded_answers.jsonl").read_text().splitlines()]
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(rules_for(row[model]["solution"] for row in rows for model in models)))
    gsm8k = EvaluatedTask(task="gsm8k", path=str(real_data / "gsm8k" / "test.jsonl"))
    report = found_out(config(tmp_path, aligner=f"rules:{rules}", upstreams=upstreams, tasks=(gsm8k,), judges=()))
    found = report.evidence.marked
    assert [(row.pairs.before, row.pairs.total) for row in found] == [(286, 1319), (458, 1319)]
    assert [(row.pairs.fixed, row.pairs.broken) for row in found] == [(1, 0), (0, 0)]
    (fixed,) = [case for case in report.cases if case.fixed]
    assert (fixed.item, fixed.before, fixed.after) == ("518", Score(False, "32.5"), Score(True, "32"))
    assert fixed.answer.endswith("$<<20+12.5=32.5>>32.5\nA: 32.5")
    assert fixed.correction.endswith("$<<20+12=32>>32\nA: 32")
    changed = {model: [int(c.item) for c in report.cases if c.upstream == model and c.changed] for model in models}
    assert changed == {
        "6b_finetuning": [489, 507, 518, 689, 870, 936, 1021, 1243],
        "175b_finetuning": [514, 710, 1038, 1107, 1201],
    }


FILES = {
    "gsm8k": "gsm8k/test.jsonl",
    "math500": "math500/math500.jsonl",
    "mbpp": "mbpp/mbpp.jsonl",
    "mbpp-plus": "mbppplus/MbppPlus-OriginFmt.jsonl.gz",
    "mmlu": "mmlu",
    "mmlu-redux": "mmlu_redux",
    "truthfulqa": "truthfulqa/TruthfulQA.csv",
    "truthfulqa-free": "truthfulqa/TruthfulQA.csv",
    "beavertails": "beavertails_eval/BeaverTails-Evaluation.json",
    "harmfulqa": "red_instruct/harmfulqa.json",
    "catqa": "red_instruct/catqa_english.json",
    "adversarialqa": "red_instruct/adversarialqa.json",
    "xstest": "xstest/xstest_prompts.csv",
    "xstest-safe": "xstest/xstest_prompts.csv",
    "empathy": "empathetic/test.csv",
    "alpaca-eval": "alpaca_eval/model_outputs/gpt4_1106_preview.json",
}
"""Every benchmark whose data is there."""


@pytest.mark.slow
@pytest.mark.parametrize("task", FILES)
def test_an_aligner_that_copies_changes_nothing_on_any_benchmark(real_data: Path, tmp_path: Path, task: str) -> None:
    """Whatever the upstream says, here the question itself: net rate 0, nothing fixed or broken, all untouched."""
    asked = EvaluatedTask(task=task, path=str(real_data / FILES[task]))
    echo = EvaluatedUpstream(name="echo", model="echo:")
    judges = ("refusal:",) if "helpful" in task_named(task).qualities else ()
    found = found_out(config(tmp_path, upstreams=(echo,), tasks=(asked,), judges=judges)).evidence
    assert all((row.pairs.fixed, row.pairs.broken, row.gain) == (0, 0, (0, 0, 0)) for row in found.marked)
    assert all((row.wins, row.losses, row.net) == (0, 0, (0, 0, 0)) for row in found.judged)
    assert [row.untouched for row in found.edited] == [1]
    assert bool(found.judged) == bool(judges)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_report(tmp_path: Path) -> None:
    """Five kills, the same command each time, and the figures of an undisturbed run."""
    random = Random(time.time_ns())
    toml = tmp_path / "run.toml"
    toml.write_text(
        'aligner = "demo"\njudges = ["world:"]\ndevice = "cpu"\n'
        '[[tasks]]\ntask = "world"\npath = "world"\nsample = 60\n'
        + "".join(f'[[upstreams]]\nname = "{name}"\nmodel = "world:{name}"\n' for name in list(PROFILES)[:3])
    )

    def command(out: Path) -> list[str]:
        return [sys.executable, "-m", "aligner", "evaluate", "--config", str(toml), "--out", str(out)]

    begun = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    whole = time.monotonic() - begun
    for _ in range(5):
        process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.3, 1.0) * whole)
        process.kill()
        process.wait()
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    whole_report, killed = without_times(tmp_path / "whole"), without_times(tmp_path / "killed")
    assert {**killed, "provenance": None} == {**whole_report, "provenance": None}
