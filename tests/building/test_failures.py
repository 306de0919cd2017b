"""Laws of what an error of a model means for its call."""

from dataclasses import replace

import pytest
from chat_server import Answer, body, completion, hang_up, serving, truncated

from aligner.building.failures import Problem, problem_of
from aligner.building.nouns import Fault
from aligner.errors import ModelError
from aligner.models.echo import EchoModel
from aligner.models.openai import load
from aligner.models.server import Timeouts
from aligner.records import Message, Usage

KEY = "sk-canary-4711"


async def problem(answer: Answer) -> Problem:
    """What an answer of a server means."""
    async with serving(answer) as served:
        model = load(f"m@{served.base_url}", {"OPENAI_API_KEY": KEY})
        model = replace(model, server=replace(model.server, timeouts=Timeouts(total=5)))
        with pytest.raises(ModelError) as caught:
            await model.once("key").complete([Message("user", "Who?")])
        assert len(served.payloads) == 1
        return problem_of(caught.value, model)


def of(answer: Answer) -> Problem:
    """The same, at once."""
    import asyncio

    return asyncio.run(problem(answer))


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI writes it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return body({"error": {"message": message, "type": "some_error", "code": code}}, status, headers=named)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (error(400), "refused"),
        (error(422), "refused"),
        (error(403, "your input was flagged"), "refused"),
        (error(503, x_should_retry="false"), "refused"),
        (error(400, "no", "context_length_exceeded"), "context"),
        (error(400, "This model's maximum context length is 4096 tokens. However, you asked for 5000."), "context"),
        (error(400, "the request exceeds the available context size, try increasing it"), "context"),
        (error(422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"), "context"),
        (error(400, "prompt is too long: 210000 tokens > 200000 maximum"), "context"),
        (error(413, "Request too large: too many tokens"), "context"),
    ],
)
def test_a_refusal_of_one_call_is_kept_and_not_tried_again(answer: Answer, fault: Fault) -> None:
    """It has a class, and says nothing of other calls."""
    told = of(answer)
    assert (told.fault, told.passing, told.ends_all, told.answered) == (fault, False, False, False)


@pytest.mark.parametrize(
    "answer",
    [
        error(401),
        error(402),
        error(403),
        error(404),
        error(405),
        error(301),
        error(429, "You exceeded your current quota", "insufficient_quota"),
        error(429, x_should_retry="false"),
    ],
)
def test_what_any_call_would_meet_ends_all(answer: Answer) -> None:
    """A wrong key, model or address, and an account without money are not tried with every row."""
    told = of(answer)
    assert (told.fault, told.ends_all) == ("auth", True)
    assert KEY not in told.said


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_says_how_long_to_wait(status: int) -> None:
    """The server's wish is kept as it is, and too many calls concern everybody."""
    told = of(error(status, retry_after="1234"))
    assert (told.fault, told.passing, told.wait, told.crowded) == ("transient", True, 1234.0, status == 429)


@pytest.mark.parametrize(
    ("answer", "answered"),
    [
        (hang_up, False),
        (truncated(200), True),
        (body('{"choices": [{"mess'), True),
        (body({"error": {"message": "the provider is down"}}), True),
    ],
)
def test_a_broken_answer_may_pass_and_may_have_been_paid_for(answer: Answer, *, answered: bool) -> None:
    """It is asked for again, and counted where the server began to answer."""
    told = of(answer)
    assert (told.fault, told.passing, told.answered) == ("transient", True, answered)


@pytest.mark.parametrize("message", [{"tool_calls": [{"id": "1"}]}, {"refusal": "I will not."}, {}])
def test_an_answer_without_text_is_paid_for_and_not_asked_for_again(message: dict[str, object]) -> None:
    """Its tokens are those that the server says."""
    told = of(body(completion(None, **message)))
    assert (told.fault, told.passing, told.answered, told.usage) == ("unusable", False, True, Usage(3, 2))


def test_what_is_said_is_one_short_line_without_control_characters() -> None:
    """A terminal and a table can show it."""
    told = problem_of(ModelError("a\x1b[31m\nb\r" + "x" * 9999), EchoModel())
    assert told.fault == "refused"
    assert told.said.isprintable()
    assert len(told.said) <= 500
