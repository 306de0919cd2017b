"""Laws of the best of n answers."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aligner.baselines.best_of import BestOf
from aligner.baselines.calls import sampling_of
from aligner.baselines.choosing import best
from aligner.correcting.writers import shipped
from aligner.errors import MisuseError
from aligner.files import write_rows
from aligner.judge import MarkJudge, PairJudge, load_judge
from aligner.models import load_model
from aligner.prompts import RUBRICS, Quality
from aligner.records import ChatModel, Completion, Message, Question, SamplingParams
from aligner.testing import Upstream, in_turn, serving
from aligner.testing.script import Asked, Script, json_body
from aligner.world.oracle import mark
from aligner.world.questions import read_question
from aligner.world.rows import held_out_rows

QUESTIONS = list(dict.fromkeys(row.asked.text for row in held_out_rows(2, seed=11)))


def complete(model: ChatModel, text: str, **how: object) -> Completion:
    """One answer."""
    sampling = SamplingParams(**how)  # pyright: ignore[reportArgumentType]
    return asyncio.run(model.complete([Message("user", text)], sampling))


def marks_of(question: str, answer: str) -> int:
    """How many qualities the oracle finds in an answer."""
    asked = read_question(question)
    assert asked is not None
    return sum(mark(asked, answer))


def says(text: str, finish: str = "stop") -> Script:
    """A reply that took 10 tokens to read and 3 to write."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json_body({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 3}})


@pytest.mark.parametrize("seed", [None, 3])
def test_the_best_of_one_is_the_upstreams(seed: int | None) -> None:
    """One answer leaves nothing to choose: it is the upstream's own."""
    for question in QUESTIONS[:10]:
        alone = complete(load_model("world:sloppy"), question, seed=seed)
        assert complete(load_model("best-of:1?judge=world:&model=world:sloppy"), question, seed=seed) == alone
    assert complete(load_model("best-of:1?judge=world:&model=echo:"), "What is love?").text == "What is love?"


def test_the_oracles_choice_is_never_worse_than_the_first() -> None:
    """By the oracle the best of n never has lower marks than the first answer, and sometimes higher ones."""
    first, chosen = load_model("world:sloppy"), load_model("best-of:4?judge=world:&model=world:sloppy")
    marks = [
        tuple(marks_of(question, complete(model, question, seed=seed).text) for model in (first, chosen))
        for seed, question in enumerate(QUESTIONS)
    ]
    assert all(best >= one for one, best in marks)
    assert any(best > one for one, best in marks)


def seeds_of(seed: int, count: int) -> list[int]:
    """The seeds of so many answers to a request with one."""
    seeds = [sampling_of(SamplingParams(seed=seed), call).seed for call in range(count)]
    return [seed for seed in seeds if seed is not None]


def test_it_is_among_the_first_n_seeds() -> None:
    """The answers of n are those of the request's seed and of others made of it: more are the same and others."""
    for question in QUESTIONS[:10]:
        drawn = [complete(load_model("world:sloppy"), question, seed=seed).text for seed in seeds_of(7, 4)]
        chosen = complete(load_model("best-of:4?judge=world:&model=world:sloppy"), question, seed=7).text
        best_marks = [marks_of(question, answer) for answer in drawn]
        assert drawn.index(chosen) == best_marks.index(max(best_marks))


def test_a_real_model_is_sampled() -> None:
    """A greedy request is drawn at temperature 1, the same each time, and the tokens of all answers are counted."""
    upstream = f"hf:{shipped('upstream')}"
    model, sampling = load_model(f"best-of:3?judge=world:&model={upstream}"), {"max_tokens": 60, "seed": 1}
    found = complete(model, QUESTIONS[0], **sampling)
    assert complete(model, QUESTIONS[0], **sampling) == found
    seeds = seeds_of(1, 3)
    drawn = [complete(load_model(upstream), QUESTIONS[0], max_tokens=60, temperature=1.0, seed=seed) for seed in seeds]
    assert found.text in [answer.text for answer in drawn]
    assert found.usage.completion_tokens == sum(answer.usage.completion_tokens for answer in drawn)
    assert len({answer.text for answer in drawn}) > 1


def test_neighbouring_requests_share_no_noise() -> None:
    """Of requests whose seeds are counted up, no two answers have one seed, and the first has the request's own."""
    seeds = [seeds_of(seed, 8) for seed in range(200)]
    assert [some[0] for some in seeds] == list(range(200))
    assert len({seed for some in seeds for seed in some}) == 200 * 8
    assert seeds_of(3, 8)[:4] == seeds_of(3, 4)
    assert all(0 <= seed < 2**31 for some in seeds for seed in some)


def test_without_a_seed_there_is_none() -> None:
    """A request without a seed leaves it to chance what each of its answers is, call by call."""

    async def run() -> list[bool]:
        upstream = Upstream(in_turn(says("Yes.")))
        async with serving(upstream) as url:
            model = load_model(f"best-of:3?judge=refusal:&model=openai:any@{url}/v1")
            await model.complete([Message("user", "q")], SamplingParams(temperature=0.7))
        return ["seed" in call.asked.payload for call in upstream.calls]

    assert asyncio.run(run()) == [False] * 3


@dataclass
class Clerk:
    """Marks answers by their length, takes its time, and notes in which thread, and whether it was alone."""

    threads: set[int]
    at_once: int = 0
    most: int = 0

    def mark(self, _: Question, answer: str, __: Quality) -> float:
        """How long the answer is."""
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.threads.add(threading.get_ident())
        time.sleep(0.01)
        self.at_once -= 1
        return float(len(answer))


def test_marking_holds_up_nobody_and_is_done_one_by_one() -> None:
    """A judge marks outside the event loop, and one answer at a time, however many requests there are."""
    clerk = Clerk(set())
    judge = MarkJudge("clerk", clerk.mark, ("helpful",))
    model = BestOf(model=load_model("world:sloppy"), judge=judge, n=3)

    async def run() -> None:
        await asyncio.gather(*(model.complete([Message("user", question)]) for question in QUESTIONS[:3]))

    asyncio.run(run())
    assert clerk.most == 1
    assert threading.get_ident() not in clerk.threads


def test_blank_and_cut_off_answers_lose() -> None:
    """An answer that is blank or was cut off is chosen only where there is no other, and all are counted."""

    async def run(*replies: Script) -> tuple[Completion, list[tuple[object, object]]]:
        upstream = Upstream(in_turn(*replies))
        async with serving(upstream) as url:
            model = load_model(f"best-of:3?temperature=0.5&judge=refusal:&model=openai:any@{url}/v1")
            answer = await model.complete([Message("user", "q")], SamplingParams(seed=5))
        return answer, sorted(
            (call.asked.payload["temperature"], call.asked.payload["seed"]) for call in upstream.calls
        )

    answer, asked = asyncio.run(run(says("I can", "length"), says(" "), says("Yes.")))
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == ("Yes.", "stop", 9)
    assert asked == sorted((0.5, seed) for seed in seeds_of(5, 3))
    answer, _ = asyncio.run(run(says("I can", "length")))
    assert (answer.text, answer.finish_reason) == ("I can", "length")


def test_ties_go_to_the_first() -> None:
    """Equal marks, and marks that the judge cannot tell apart, leave the first of them."""

    def length(_: object, answer: str, __: object) -> float:
        return float(len(answer))

    def place(margin: float, answers: Sequence[str]) -> int:
        judge = MarkJudge("length", length, ("helpful",), margin=margin)
        return asyncio.run(best(judge, "q", answers, judge.qualities))

    assert place(0, ["a", "bbb", "ccc", "dd"]) == 1
    assert place(1, ["a", "dd", "bbb"]) == 1
    assert place(0, ["a", "b"]) == 0


def longer_in_both_orders(asked: Asked) -> Script:
    """A judge that prefers the longer answer, whichever stands first."""
    user = asked.payload["messages"][-1]["content"]
    rubric = RUBRICS["published"].of["helpful"]
    assert rubric.words["responsea"] == 0
    first, second = user.split("<responseA>: ")[1].split("\n<responseB>: ")
    word = "responseA" if len(first) > len(second) else "responseB" if len(second) > len(first) else "Equal"
    return says(f"Better: [[{word}]]")


def test_a_judge_of_pairs_holds_each_against_the_best_so_far() -> None:
    """A knockout asks in both orders, n - 1 times, and a tie leaves the earlier answer."""

    async def run(answers: Sequence[str]) -> tuple[int, int]:
        upstream = Upstream(longer_in_both_orders)
        async with serving(upstream) as url:
            judge = PairJudge("judge", load_model(f"openai:any@{url}/v1"), RUBRICS["published"])
            return await best(judge, "q", answers, ["helpful"]), upstream.count

    assert asyncio.run(run(["aa", "b", "cccc", "dddd", "e"])) == (2, 8)
    assert asyncio.run(run(["aa", "bb"])) == (0, 2)
    # Equal texts are a tie, and nobody is asked.
    assert asyncio.run(run(["aa", "aa", "aa"])) == (0, 0)


def test_names_hold_other_names(tmp_path: Path) -> None:
    """A name inside may have options, and marks of its own where they are written as in an address."""
    path = tmp_path / "a&b+c%41.jsonl"
    write_rows(path, [{"q": "Hi", "a": "Hello"}])
    inner = f"replay:{str(path).replace('%', '%25').replace('&', '%26')}?question=q%26answer=a"
    assert complete(load_model(f"best-of:2?judge=refusal:&model={inner}"), "Hi").text == "Hello"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "of how many answers: best-of:N"),
        ("x?judge=world:&model=echo:", "of how many answers"),
        ("-1?judge=world:&model=echo:", "of how many answers"),
        ("0?judge=world:&model=echo:", "at least 1"),
        ("4", "names no judge: best-of:N"),
        ("4?judge=world:", "names no model: best-of:N"),
        ("4?judge=&model=echo:", "names no judge"),
        ("4?judge=world:&model=echo:&temprature=1", 'did you mean "temperature"'),
        ("4?judge=world:&model=echo:&model=echo:", "said twice"),
        ("4?judge=world:&model=echo:&temperature=warm", "a number from 0"),
        ("4?judge=world:&model=echo:&temperature=nan", "a number from 0"),
        ("4?judge=world:&model=echo:&temperature=-1", "a number from 0"),
        ("4?judge=oracle:&model=echo:", "unknown judge"),
        ("4?judge=world:&model=ecko:", 'did you mean "echo:"'),
    ],
)
def test_a_malformed_name_is_told_how_it_is_written(name: str, said: str) -> None:
    """Whatever is missing or wrong in a name is said in one line, with the cure."""
    with pytest.raises(MisuseError, match=said):
        load_model(f"best-of:{name}")


def test_no_name_is_told_twice() -> None:
    """The names that an unknown judge could have had are each told once."""
    with pytest.raises(MisuseError) as told:
        load_model("best-of:4?judge=oracle:&model=echo:")
    known = str(told.value).partition("known: ")[2].rstrip(")").split(", ")
    assert len(known) == len(set(known)) > 5


def test_a_quality_that_the_judge_cannot_judge_is_misuse() -> None:
    """What to choose by is checked before anything is drawn."""
    with pytest.raises(MisuseError, match="cannot judge what is honest"):
        BestOf(model=load_model("echo:"), judge=load_judge("refusal:"), n=2, qualities=("honest",))
