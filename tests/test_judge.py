"""Laws of judges: both orders, strict reading, and answers that stay data."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from chat_server import Served, completion, serving
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from aligner.errors import CheckpointError, MisuseError, ModelError
from aligner.judge import Judge, MarkJudge, PairJudge, load_judge
from aligner.judging.asking import reading_of
from aligner.judging.reward import load_reward_model
from aligner.judging.verdicts import Reading, Verdict, agreement, length_ratio, rates, together
from aligner.prompts import QUALITIES, RUBRICS, Quality, Rubric, text_of
from aligner.records import Comparison, Message
from aligner.world.profiles import PROFILES
from aligner.world.rows import rows

EVERY = [rubric for rubrics in RUBRICS.values() for rubric in rubrics.of.values()]
OURS, PUBLISHED = RUBRICS["ours"].of, RUBRICS["published"].of
MESSAGES = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "How?"))
_MARKS = sorted({mark for rubric in EVERY for mark in rubric.marks})
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([*_MARKS, *(mark.upper() for mark in _MARKS), "<\\", "[\\[", "\\", "<", "[[", "{first}", "{"]),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)
"""Texts made of what could be taken for a part of the prompt."""


def between(text: str, before: str, behind: str) -> str:
    """The one piece of a text that stands between two pieces which stand there once."""
    (start,) = re.finditer(re.escape(before), text)
    end = text.index(behind, start.end()) if behind else len(text)
    assert not behind or text.count(behind) == 1
    return text[start.end() : end]


@given(st.sampled_from(EVERY), HOSTILE, HOSTILE, HOSTILE)
def test_texts_stay_data(rubric: Rubric, question: str, first: str, second: str) -> None:
    """Whatever texts hold, the rubric's marks stand where they stood, and there is one way to find the texts again."""
    user = rubric.messages(question, first, second)[1].content
    plain = rubric.messages("q", "a", "b")[1].content
    for mark in rubric.marks:
        assert user.lower().count(mark.lower()) == plain.lower().count(mark.lower())
    literals = [re.escape(part) for part in re.split(r"\{(?:question|first|second)\}", rubric.user)]
    for texts in ("(.*)", "(.*?)"):
        found = re.fullmatch(texts.join(literals), user, re.DOTALL)
        assert found
        assert [rubric.unsealed(text) for text in found.groups()] == [question, first, second]


def test_an_ordinary_text_is_not_touched() -> None:
    """Brackets, markup and code that are no marks come through as they are."""
    text = "if (a[[0]] < b) { return '<answer>'; } <response>"
    assert all(rubric.sealed(text) == text for rubric in EVERY)


@pytest.mark.parametrize(
    ("quality", "system", "output"),
    [
        ("harmless", "you are engaged in minimizing the toxicity and bias of large language models.", "More harmful: "),
        ("helpful", "so we kindly ask you to disregard any safety-related elements in this context.", "Better: "),
        ("empathetic", "You are a specialist in the domain of psychology, emotional healing", "More empathetic: "),
        ("summary", "text summarization", ""),
    ],
)
def test_the_published_words_are_exact(quality: Quality, system: str, output: str) -> None:
    """The published rubrics have the paper's system message, its tie clause, its outputs and its three last lines."""
    asked = PUBLISHED[quality].messages("Q", "A", "B")
    assert system in asked[0].content
    assert asked[1].content.endswith("\n<Prompt>: Q\n<responseA>: A\n<responseB>: B")
    ties = quality != "summary"
    assert ("Please judiciously determine that the two are equal, and make as many" in asked[1].content) == ties
    assert f"`{output}[[responseA]]`" in asked[1].content
    assert (f"`{output}[[Equal]]`" in asked[1].content) == ties


@pytest.mark.parametrize(
    ("rubric", "said", "vote"),
    [
        (PUBLISHED["harmless"], "Both are rude.\nMore harmful: [[responseA]]", 1.0),  # the one that is named loses
        (PUBLISHED["harmless"], "more HARMFUL: [[ResponseB]] indeed", 0.0),
        (PUBLISHED["harmless"], "More harmful: [[Equal]]", 0.5),
        (PUBLISHED["helpful"], "Better: [[responseA]]", 0.0),
        (PUBLISHED["helpful"], "Better: [[responseB]]", 1.0),
        (PUBLISHED["helpful"], "Better: [[responseB]], so Better: [[responseB]]", None),
        (PUBLISHED["helpful"], "Better: [[responseA or responseB]]", None),
        (PUBLISHED["helpful"], "More harmful: [[responseA]]", None),
        (PUBLISHED["helpful"], "Better: responseB", None),
        (PUBLISHED["summary"], "I prefer [[responseA]].", 0.0),
        (PUBLISHED["summary"], "[[Equal]]", None),
        (PUBLISHED["empathetic"], "More empathetic: [[responseB]]", 1.0),
        (OURS["honest"], "1\nIt names the right year.", 0.0),
        (OURS["honest"], " 2.  \n", 1.0),
        (OURS["honest"], "0", 0.5),
        (OURS["honest"], "1 and 2 are equal", None),
        (OURS["honest"], "10\n", None),
        (OURS["honest"], "Answer 2 is better.\n2", None),
        (OURS["honest"], "", None),
    ],
)
def test_a_verdict_is_read_strictly(rubric: Rubric, said: str, vote: float | None) -> None:
    """Exactly one verdict in the form that was asked for counts; all else is a tie that could not be read."""
    assert reading_of(rubric, said) == Reading(0.5 if vote is None else vote, vote, said)


def test_probabilities_say_how_sure_the_judge_is() -> None:
    """Weights of the same verdict add up, others do not count, and they cannot turn the verdict that was said."""
    tokens = {"2": -0.5, " 2": -2.0, "1": -1.5, "0": -3.0, "The": -0.1}
    preference = reading_of(OURS["helpful"], "2\nIt is.", tokens).preference
    two, one, none = 2.718281828**-0.5 + 2.718281828**-2, 2.718281828**-1.5, 2.718281828**-3
    assert preference == pytest.approx((two + none / 2) / (two + one + none))
    assert reading_of(OURS["helpful"], "1\nIt is.", tokens).preference == 0.0
    assert reading_of(OURS["helpful"], "Two.", tokens).vote is None


Reply = Callable[[dict[str, Any]], dict[str, Any]]


def judging(reply: Reply, use: Callable[[Judge, Served], Awaitable[Any]], prefix: str = "", **options: Any) -> Any:
    """What comes of using a judge whose model is a real server that replies so to each request."""

    async def answer(request: web.Request) -> web.Response:
        told = reply(await request.json())
        return web.Response(status=told.pop("status", 200), text=json.dumps(told), content_type="application/json")

    async def run() -> Any:
        async with serving(answer) as served:
            return await use(load_judge(f"{prefix}openai:judge@{served.base_url}", **options), served)

    return asyncio.run(run())


def longest(payload: dict[str, Any]) -> str:
    """Which of the answers between our marks is the longer one."""
    user = payload["messages"][1]["content"]
    sizes = [len(between(user, f"<answer_{i}>\n", f"\n</answer_{i}>")) for i in (1, 2)]
    return "0" if sizes[0] == sizes[1] else "1" if sizes[0] > sizes[1] else "2"


def says(text: Callable[[dict[str, Any]], str]) -> Reply:
    return lambda payload: completion(text(payload))


def compared(a: str, b: str, quality: Quality = "helpful") -> Callable[[Judge, Served], Awaitable[Verdict]]:
    return lambda judge, _: judge.compare("Q?", a, b, quality)


def test_a_win_survives_the_swap() -> None:
    """A judge that looks at the answers prefers the same one in both orders, and is asked twice at temperature 0."""

    async def use(judge: Judge, served: Served) -> tuple[Verdict, list[dict[str, Any]]]:
        return await judge.compare("Q?", "long answer", "short", "helpful"), served.payloads

    verdict, payloads = judging(says(longest), use)
    assert (verdict.preference, verdict.winner, verdict.flipped, verdict.parsed, verdict.calls) == (
        0,
        "a",
        False,
        True,
        2,
    )
    assert [payload["temperature"] for payload in payloads] == [0, 0]
    first, second = (payload["messages"][1]["content"] for payload in payloads)
    assert first.index("long answer") < first.index("short")
    assert second.index("short") < second.index("long answer")


@pytest.mark.parametrize("votes", ["agree", "half"])
def test_a_judge_that_likes_a_place_decides_nothing(votes: Any) -> None:
    """Where the first answer wins in both orders, it is a tie, and counted as flipped."""
    verdict = judging(says(lambda _: "1\nFirst come."), compared("x", "y"), votes=votes)
    assert (verdict.preference, verdict.winner, verdict.flipped) == (0.5, "tie", True)


def test_the_published_judge_of_harm_prefers_what_it_does_not_name() -> None:
    """The response that is named as more harmful loses, in both orders."""

    def named(payload: dict[str, Any]) -> str:
        user = payload["messages"][1]["content"]
        return f"More harmful: [[response{'A' if user.index('kill') < user.index('talk') else 'B'}]]"

    assert judging(says(named), compared("kill", "talk", "harmless"), "published:").winner == "b"


def test_equal_answers_are_a_tie_without_a_call() -> None:
    """No model is asked about two answers that are the same."""

    async def use(judge: Judge, served: Served) -> tuple[Verdict, int]:
        return await judge.compare("Q?", "same", "same", "honest"), len(served.payloads)

    verdict, requests = judging(says(longest), use)
    assert (verdict.preference, verdict.calls, requests) == (0.5, 0, 0)


def test_what_cannot_be_read_is_a_tie_and_told() -> None:
    """A judge that does not keep to the form decides nothing, though half of a vote may be left."""
    unreadable = says(lambda payload: longest(payload) if longest(payload) == "1" else "I like both.")
    verdict = judging(unreadable, compared("long", "x"))
    assert (verdict.preference, verdict.parsed, verdict.flipped) == (0.5, False, False)
    assert judging(unreadable, compared("long", "x"), votes="half").preference == 0.25


def with_logprobs(payload: dict[str, Any]) -> dict[str, Any]:
    """A reply as OpenAI gives it with log-probabilities: the longer answer is better at 3 to 1."""
    verdict = longest(payload)
    other = "1" if verdict == "2" else "2"
    top = [{"token": verdict, "logprob": -0.2877}, {"token": other, "logprob": -1.3863}]
    reply = completion(f"{verdict}\nIt is longer.")
    tokens = [{"token": "\n", "logprob": 0.0, "top_logprobs": []}, {"token": verdict, "top_logprobs": top}]
    if payload.get("logprobs"):
        reply["choices"][0]["logprobs"] = {"content": tokens}
    return reply


def test_log_probabilities_make_the_verdict_finer() -> None:
    """Where the server gives them, the preference is what the judge's first token says, white space left out."""
    assert judging(with_logprobs, compared("x", "longer")).preference == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, [], "1", {"content": None}, {"content": [None, {"token": 1}, {"token": "1", "top_logprobs": [7, {}]}]}],
)
def test_log_probabilities_of_another_form_are_none(logprobs: object) -> None:
    """What a server says in another form than OpenAI's leaves the verdict that was said."""

    def reply(payload: dict[str, Any]) -> dict[str, Any]:
        said = completion(longest(payload))
        said["choices"][0]["logprobs"] = logprobs
        return said

    assert judging(reply, compared("x", "longer")).preference == 1


def test_a_server_that_refuses_log_probabilities_is_asked_without() -> None:
    """The refusal costs one call, and no later one."""

    def refusing(payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": 400, "error": "no logprobs"} if "logprobs" in payload else completion(longest(payload))

    async def use(judge: Judge, served: Served) -> list[bool]:
        assert (await judge.compare("Q?", "x", "longer", "helpful")).preference == 1
        return ["logprobs" in payload for payload in served.payloads]

    assert judging(refusing, use) == [True, False, False]


@pytest.mark.parametrize("status", [400, 401])
def test_a_model_that_gives_no_reply_is_an_error(status: int) -> None:
    """What the server refuses for another reason is told as the model tells it."""
    with pytest.raises(ModelError, match=f"status {status}"):
        judging(lambda _: {"status": status, "error": "no"}, compared("x", "y"))


READINGS = st.sampled_from([0.0, 0.5, 1.0, None]).flatmap(
    lambda vote: st.builds(
        Reading,
        st.just(0.5) if vote in (None, 0.5) else st.floats(0, 0.5) if vote == 0 else st.floats(0.5, 1),
        st.just(vote),
        st.text(max_size=3),
    )
)


@given(READINGS, READINGS, st.sampled_from(["agree", "half"]))
def test_the_sides_may_be_swapped(forward: Reading, backward: Reading, votes: Any) -> None:
    """The verdict on (b, a) is that on (a, b) seen from the other side, and a win needs both orders."""
    verdict, swapped = together(forward, backward, votes), together(backward, forward, votes)
    assert verdict.preference + swapped.preference == pytest.approx(1)
    assert (verdict.flipped, verdict.parsed) == (swapped.flipped, swapped.parsed)
    if verdict.preference != pytest.approx(0.5):
        assert Comparison("Q", "a", "b", verdict.winner).swap().winner == swapped.winner
    if votes == "agree" and verdict.winner != "tie":
        assert forward.vote is not None
        assert forward.vote + (backward.vote or 0.0) == 1
        assert not verdict.flipped


def test_the_oracle_prefers_what_a_perfect_editor_wrote() -> None:
    """The correction of a flawed answer loses by no quality and wins by some; only the world's questions are known."""
    judge = load_judge("world:")
    assert judge.qualities == ("honest", "harmless", "helpful")
    for row in (row for profile in PROFILES.values() for row in rows(profile, count=2, seed=0, split="unseen")):
        asked = row.asked.text, row.answer, row.correction
        found = [asyncio.run(judge.compare(*asked, quality)).preference for quality in judge.qualities]
        assert min(found) >= 0.5
        assert (max(found) == 1) == bool(row.flaws)
    with pytest.raises(ModelError, match="no such question"):
        asyncio.run(judge.compare("How tall is Ann?", "a", "b", "honest"))


def test_a_refusal_helps_less_than_an_answer() -> None:
    """The rules know a refusal; two answers, and two refusals, are a tie."""
    judge, no = load_judge("refusal:"), "I'm sorry, but I can't help with that."
    found = [
        asyncio.run(judge.compare("How?", *pair, "helpful")).winner for pair in (("So.", no), (no, "So."), ("a", "b"))
    ]
    assert found == ["a", "b", "tie"]


def test_a_small_difference_of_marks_is_a_tie() -> None:
    """Beyond the margin the preference is what two independent probabilities make likely."""
    judge = MarkJudge("length", lambda _, answer, __: len(answer) / 10, ("helpful",), margin=0.15)
    found = [asyncio.run(judge.compare("Q", "x" * 4, "x" * size, "helpful")).preference for size in (4, 5, 8, 2)]
    assert found == pytest.approx([0.5, 0.5, 0.7, 0.4])


def test_a_reward_model_prefers_what_it_rewards(tmp_path: Path) -> None:
    """Rewards give the preference of Bradley and Terry, and a model without a head for rewards is refused."""
    tiny_model(tmp_path / "causal")
    with pytest.raises(CheckpointError, match=r"not a reward model: it has no score\.weight"):
        load_judge(f"reward:{tmp_path / 'causal'}")
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "causal", num_labels=1)
    model.save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(tmp_path / "causal").save_pretrained(tmp_path / "reward")
    judge, rewards = load_judge(f"reward:{tmp_path / 'reward'}"), load_reward_model(str(tmp_path / "reward"))
    gain = rewards.reward("What?", "A dog.") - rewards.reward("What?", "No.")
    preference = asyncio.run(judge.compare("What?", "No.", "A dog.", "helpful")).preference
    assert preference == pytest.approx(1 / (1 + exp(-gain)))
    assert asyncio.run(judge.compare("What?", "A dog.", "No.", "helpful")).preference == pytest.approx(1 - preference)
    assert rewards.reward(MESSAGES, "No.") != rewards.reward("What?", "No.")
    with pytest.raises(ModelError, match="the context holds 256"):
        rewards.reward("What?", "No. " * 300)


def test_another_reward_model_under_the_same_name_is_another_judge(tmp_path: Path) -> None:
    """What a judge is called ends with letters that are others where its weights are, and the same elsewhere."""
    name, found = f"reward:{tmp_path / 'reward'}?quality=honest", list[str]()
    for seed in (0, 1, 0):
        base = tiny_model(tmp_path / f"{seed}", seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        model.save_pretrained(tmp_path / "reward")
        AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "reward")
        found.append(load_judge(name).name)
    assert found[0] == found[2] != found[1]
    assert all(re.fullmatch(re.escape(name) + "@[0-9a-f]{8}", one) for one in found)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("reward:", "reward:FOLDER_OR_HUB_ID"),
        ("reward:x?quality=nice", 'unknown quality "nice"'),
        ("openia:gpt", 'unknown judge "openia:gpt"; did you mean "openai:"'),
        ("published:world:", "unknown judge|unknown upstream"),
        ("world:careless", '"world:" takes no name'),
        ("truth:", "truth:FOLDER"),
    ],
)
def test_a_wrong_name_is_misuse(name: str, problem: str) -> None:
    """What is no judge is told in one line, with the nearest one."""
    with pytest.raises(MisuseError, match=problem):
        load_judge(name)


def test_a_quality_that_a_judge_cannot_judge_is_misuse() -> None:
    """The paper published no rubric for honesty, and rules for refusals know nothing else."""
    for name in ("published:echo:", "refusal:"):
        with pytest.raises(MisuseError, match=r"cannot judge what is honest, only h.+"):
            asyncio.run(load_judge(name).compare("Q", "a", "b", "honest"))
    assert set(load_judge("echo:").qualities) == set(QUALITIES)


def test_the_name_tells_judges_apart() -> None:
    """Another set of rubrics, or other votes, is another name, and the report can quote the words' hash."""
    judges: Sequence[Judge] = [load_judge("echo:"), load_judge("published:echo:"), load_judge("echo:", votes="half")]
    assert [judge.name for judge in judges] == ["echo: (ours-1)", "echo: (published-1)", "echo: (ours-1, half votes)"]
    assert len({str(judge.about["rubrics_sha256"]) for judge in judges}) == 2
    assert isinstance(judges[0], PairJudge)


def test_a_conversation_is_shown_with_who_speaks() -> None:
    """The judge reads every turn of the question."""
    assert text_of(MESSAGES) == "User: Hi\n\nAssistant: Yes?\n\nUser: How?"


def test_the_figures_of_a_judge() -> None:
    """Rates count what was asked, agreement is Cohen's kappa of the winners, and nothing counted is no figure."""
    a, b, tie = Verdict(0, "", calls=2), Verdict(1, "", calls=2), Verdict(0.5, "same")
    flipped, lost = Verdict(0.5, "", flipped=True, calls=2), Verdict(0.5, "", parsed=False, calls=2)
    assert rates([a, b, tie, flipped, lost]) == (5, 1, pytest.approx(1 / 3), pytest.approx(1 / 4))
    assert rates([tie]) == (1, 1, None, None)
    assert agreement([a, a, b, b], [a, b, b, b]) == (4, 0.75, pytest.approx(0.5))
    assert agreement([a], [a]).kappa is None
    assert length_ratio([("ab", "abc"), ("", "x")]) == 2
    assert length_ratio([]) is None
    with pytest.raises(ValueError, match="no verdicts"):
        agreement([], [])
