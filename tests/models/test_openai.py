"""Laws of the client for OpenAI-compatible servers, against a real server on loopback."""

import asyncio
import gc
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from chat_server import Answer, body, chunk, completion, event, hang_up, serving, stalled, stream, truncated

from aligner.errors import MisuseError, ModelError
from aligner.models import load_model
from aligner.models.openai import OpenAIModel, load, sampling_fields
from aligner.models.server import Retries, Timeouts
from aligner.records import Completion, Message, SamplingParams, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ASKED = [Message("system", "Be brief."), Message("user", "Grüße?")]
QUICK = Retries(attempts=3, first_wait=0.001, longest_wait=0.2, jitter=0.0)
DONE = event(b"[DONE]")
HI = (event(chunk("H")), event(chunk("i")), event(chunk(None, "stop")), DONE)
KEY = "sk-canary-4711"


def model_at(base_url: str, *, timeouts: Timeouts = Timeouts(), key: str = "", largest: int = 2**20) -> OpenAIModel:
    model = load(f"tiny/m@2024@{base_url}", {"OPENAI_API_KEY": key})
    server = replace(model.server, retries=QUICK, timeouts=timeouts, largest_answer=largest)
    return replace(model, server=server)


async def pieces_of(model: OpenAIModel, sampling: SamplingParams = SamplingParams()) -> list[str]:
    return [piece async for piece in model.stream(ASKED, sampling)]


def complete(*answers: Answer, **options: Any) -> tuple[Completion, list[dict[str, Any]]]:
    async def run() -> tuple[Completion, list[dict[str, Any]]]:
        async with serving(*answers) as served:
            return await model_at(served.base_url, **options).complete(ASKED), served.payloads

    return asyncio.run(run())


def streamed(*answers: Answer, **options: Any) -> list[str]:
    async def run() -> list[str]:
        async with serving(*answers) as served:
            return await pieces_of(model_at(served.base_url, **options))

    return asyncio.run(run())


def failure(*answers: Answer, stream_it: bool = False, **options: Any) -> tuple[str, int]:
    """The one line of the error, and how many requests were made."""

    async def run() -> tuple[str, int]:
        async with serving(*answers) as served:
            model = model_at(served.base_url, **options)
            with pytest.raises(ModelError) as caught:
                await (pieces_of(model) if stream_it else model.complete(ASKED))
            line = str(caught.value)
            assert line.startswith(f"{served.base_url}/chat/completions: ")
            return line, len(served.payloads)

    line, requests = asyncio.run(run())
    assert "\n" not in line
    return line, requests


def test_a_completion_is_what_the_server_wrote() -> None:
    """Text, finish reason and usage are the server's, and it is asked for the model and the whole conversation."""
    answer, payloads = complete(body(completion("Moin ☀")))
    assert answer == Completion("Moin ☀", "stop", Usage(3, 2))
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße?"}]
    assert payloads == [{"model": "tiny/m@2024", "messages": turns, "temperature": 0.0}]


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        (completion("x") | {"usage": None}, "usage"),
        ({"choices": [{"message": {"content": "x"}}]}, "finish reason and usage"),
    ],
)
def test_what_a_server_leaves_out_has_a_plain_value(given: dict[str, Any], left_out: str) -> None:
    """Usage and finish reason are optional."""
    assert complete(body(given))[0] == Completion("x", "stop", Usage()), left_out


def test_an_empty_answer_is_an_answer() -> None:
    """A model may answer nothing at all, streamed or not."""
    assert complete(body(completion("")))[0].text == ""
    assert streamed(stream(event(chunk("", role="assistant")), event(chunk(None, "stop")), DONE)) == []


def test_sampling_is_sent_in_openai_words() -> None:
    """Every parameter has its field, and those without effect are left out."""
    full = SamplingParams(temperature=0.5, top_p=0.9, top_k=7, max_tokens=11, stop=("\n",), seed=0)
    words = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "max_tokens": 11, "stop": ["\n"], "seed": 0}
    assert sampling_fields(full) == words
    assert sampling_fields(SamplingParams()) == {"temperature": 0.0}


@pytest.mark.parametrize("predicts", [True, False])
def test_a_prediction_is_sent_only_where_it_is_taken(*, predicts: bool) -> None:
    """Many servers refuse a prediction, so it needs to be asked for."""

    async def run() -> dict[str, Any]:
        async with serving(body(completion("x"))) as served:
            await replace(model_at(served.base_url), predicts=predicts).complete(ASKED, prediction="draft")
            return served.payloads[0]

    assert asyncio.run(run()).get("prediction") == ({"type": "content", "content": "draft"} if predicts else None)


@pytest.mark.parametrize(
    "writes",
    [
        HI,
        (b"".join(HI),),
        tuple(bytes([byte]) for byte in b"".join(HI)),
        (b"".join(HI).replace(b"\n", b"\r\n"),),
        (b": heartbeat\n\n", HI[0], b":\n\n", *HI[1:]),
        (event(chunk("", role="assistant")), *HI),
        (*HI[:3], event({"choices": [], "usage": {"prompt_tokens": 1}}), DONE),
        HI[:3],
        (HI[0], HI[1], DONE),
        (HI[0], HI[1], event(chunk(None, "stop")).rstrip(b"\n")),
        (b"event: x\nid: 7\nretry: 1\ndata: {}\n\n", *HI),
        (*HI, b"data: not read any more\n\n"),
        (event(chunk("H", tool_calls=None)), *HI[1:]),
        (b'data: {"choices": [{"delta":\ndata: {"content": "Hi"}, "finish_reason": "stop"}]}\n\n',),
    ],
)
def test_every_way_to_stream_an_answer_is_understood(writes: tuple[bytes, ...]) -> None:
    """Chunk borders, line ends, comments, unknown events and a missing end mark do not change the text."""
    assert "".join(streamed(stream(*writes))) == "Hi"


def test_a_character_may_be_split_between_two_chunks() -> None:
    """Bytes are decoded only when an event is whole."""
    data = b"data: " + '{"choices": [{"delta": {"content": "ü€😀"}, "finish_reason": "stop"}]}'.encode() + b"\n\n"
    assert streamed(stream(*(bytes([byte]) for byte in data))) == ["ü€😀"]


def test_a_server_that_cannot_stream_gives_one_piece() -> None:
    """A completion in answer to a request for a stream is used as it is."""
    assert streamed(body(completion("Hi there"))) == ["Hi there"]


RUBBISH = [
    (body("<html>\n<b>Hello</b></html>", content_type="text/html"), "no valid JSON: <html> <b>Hello</b></html>"),
    (body('{"choices": [{"mess'), 'no valid JSON: {"choices": [{"mess'),
    (body(""), "no valid JSON"),
    (body([]), "no choices in the answer: []"),
    (body({"choices": []}), 'no choices in the answer: {"choices": []}'),
    (body({"error": {"message": "boom"}}), "an error instead of an answer"),
    (body({"choices": [{"message": "text"}]}), "no text in the answer"),
    (body({"choices": [None]}), "no text in the answer"),
    (body(completion(None)), "no text in the answer"),
    (body(completion([{"type": "text", "text": "x"}])), "no text in the answer"),
    (body(completion(None, tool_calls=[{"id": "1"}])), "tool calls instead of text"),
    (body(completion("", tool_calls=[{"id": "1"}])), "tool calls instead of text"),
    (body(completion(None, refusal="I will not.")), "a refusal instead of text"),
]


@pytest.mark.parametrize(("answer", "problem"), RUBBISH)
@pytest.mark.parametrize("stream_it", [False, True])
def test_rubbish_is_one_clear_line(answer: Answer, problem: str, *, stream_it: bool) -> None:
    """What cannot be used is an error with server, status and the start of the answer, and is not asked for again."""
    line, requests = failure(answer, stream_it=stream_it)
    assert f": status 200, but {problem}" in line
    assert requests == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (stream(HI[0], event({"error": {"message": "boom", "code": 7}})), 'error in the stream: {"error"'),
        (stream(HI[0], event({"error": "boom"})), "error in the stream"),
        (stream(HI[0], event(b'{"choices": [')), 'no valid JSON: {"choices": ['),
        (stream(HI[0]), "the stream ended before the answer did"),
        (stream(), "the stream ended before the answer did"),
        (stream(HI[0], cut=True), "the answer was cut off"),
        (stream(DONE), "no text in the answer"),
        (stream(event(chunk(None, "stop")), DONE), "no text in the answer"),
        (stream(event(chunk("", "tool_calls", tool_calls=[{"index": 0}])), DONE), "tool calls instead of text"),
    ],
)
def test_a_broken_stream_is_one_clear_line(answer: Answer, problem: str) -> None:
    """A stream that is not a whole answer is an error, and is not asked for again."""
    line, requests = failure(answer, stream(*HI), stream_it=True)
    assert problem in line
    assert requests == 1


def test_pieces_come_before_the_error() -> None:
    """What came before a stream broke has been handed on, and nothing of it comes twice."""

    async def run() -> tuple[list[str], int]:
        async with serving(stream(*HI[:2], cut=True), stream(*HI)) as served:
            pieces: list[str] = []
            with pytest.raises(ModelError):
                async for piece in model_at(served.base_url).stream(ASKED):
                    pieces.append(piece)
            return pieces, len(served.payloads)

    assert asyncio.run(run()) == (["H", "i"], 1)


def test_a_truncated_body_is_one_clear_line() -> None:
    """A body shorter than it said is an error."""
    line, requests = failure(truncated(200))
    assert "the answer was cut off" in line
    assert requests == 1


def test_a_truncated_refusal_is_still_a_refusal() -> None:
    """The status says what there is to know."""
    line, requests = failure(truncated(400))
    assert "chat/completions: status 400" in line
    assert requests == 1


@pytest.mark.parametrize("stream_it", [False, True])
def test_the_size_of_an_answer_is_bounded(*, stream_it: bool) -> None:
    """A server cannot fill the memory."""
    endless = stream(*[event(chunk("x" * 500))] * 100) if stream_it else body(completion("x" * 50_000))
    assert "larger than 10,000 bytes" in failure(endless, stream_it=stream_it, largest=10_000)[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_for_good_is_not_tried_again(status: int) -> None:
    """What would be refused again is asked for once."""
    line, requests = failure(body({"error": {"message": "no"}}, status), body(completion("x")))
    assert f"status {status}" in line
    assert '{"error": {"message": "no"}}' in line
    assert requests == 1


def test_a_missing_key_names_its_cure() -> None:
    """Status 401 says where the key comes from."""
    assert "set OPENAI_API_KEY" in failure(body("", 401))[0]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
@pytest.mark.parametrize("stream_it", [False, True])
def test_a_passing_refusal_is_tried_again(status: int, *, stream_it: bool) -> None:
    """An answer after passing refusals is as good as one at once."""
    if stream_it:
        assert "".join(streamed(body("", status), body("", status), stream(*HI))) == "Hi"
    else:
        answer, payloads = complete(body("", status), body("", status), body(completion("Hi")))
        assert (answer.text, len(payloads)) == ("Hi", 3)


def test_a_connection_that_is_closed_is_tried_again() -> None:
    """A server that hangs up before it answers may answer the next time."""
    assert complete(hang_up, body(completion("Hi")))[0].text == "Hi"


def test_a_server_that_fails_for_ever_ends_in_an_error() -> None:
    """After the last attempt comes the server's own error, cut to 200 characters."""
    line, requests = failure(body("x" * 1000, 500))
    assert line.endswith(f"status 500: {'x' * 200}")
    assert requests == 3


def test_a_server_may_forbid_another_attempt() -> None:
    """`x-should-retry: false` is heeded."""
    assert failure(body("", 503, headers={"x-should-retry": "false"}))[1] == 1


def test_a_server_may_ask_for_time() -> None:
    """`Retry-After` is waited for, up to the longest wait."""
    start = time.monotonic()
    answer, _ = complete(body("", 429, headers={"Retry-After": "1000"}), body(completion("Hi")))
    assert answer.text == "Hi"
    assert time.monotonic() - start >= QUICK.longest_wait


def test_a_slow_server_is_given_up() -> None:
    """No answer in time is an error, and is not asked for again, since the server may be at work on it."""
    line, requests = failure(stalled(), timeouts=Timeouts(total=0.3))
    assert "no whole answer within 0.3 s" in line
    assert requests == 1


def test_a_stream_that_stalls_is_given_up() -> None:
    """The wait between two pieces is bounded."""
    line, requests = failure(stalled(HI[0]), stream_it=True, timeouts=Timeouts(between=0.2))
    assert "cut off: nothing came for 0.2 s" in line
    assert requests == 1


def test_a_server_that_is_down_is_one_clear_line() -> None:
    """A closed port names the server and a cure."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        model = model_at(f"http://127.0.0.1:{closed.getsockname()[1]}/v1")
        with pytest.raises(
            ModelError, match=r"^http://127\.0\.0\.1:\d+/v1/chat/completions: cannot connect: .*running\?$"
        ):
            asyncio.run(model.complete(ASKED))


def test_a_host_that_is_not_there_is_one_clear_line() -> None:
    """A name that no server has is an error of one line."""
    with pytest.raises(ModelError, match=r"^http://no-such-host\.invalid/v1/chat/completions: cannot connect: .*\?$"):
        asyncio.run(model_at("http://no-such-host.invalid/v1").complete(ASKED))


def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    """A server that repeats the key does not bring it into an error, and no representation shows it."""

    async def run() -> tuple[str, str, str]:
        async with serving(body(f"bad key {KEY}!", 401)) as served:
            model = model_at(served.base_url, key=KEY)
            with pytest.raises(ModelError) as caught:
                await model.complete(ASKED)
            return served.headers[0]["Authorization"], str(caught.value), repr(model)

    header, line, shown = asyncio.run(run())
    assert header == f"Bearer {KEY}"
    assert line.endswith("bad key ***!")
    assert KEY not in line + shown


def test_no_key_means_no_header() -> None:
    """A server without keys gets none."""

    async def run() -> dict[str, str]:
        async with serving(body(completion("x"))) as served:
            await model_at(served.base_url).complete(ASKED)
            return served.headers[0]

    assert "Authorization" not in asyncio.run(run())


def test_a_model_that_is_held_open_keeps_its_connection() -> None:
    """Calls one after the other share one connection inside `async with`, and no session is left open after it."""

    async def run() -> int:
        async with serving(body(completion("x"))) as served:
            async with model_at(served.base_url) as model:
                for _ in range(3):
                    await model.complete(ASKED)
            return len(served.clients)

    assert asyncio.run(run()) == 1
    gc.collect()


def test_one_model_serves_many_callers_in_one_event_loop_after_another() -> None:
    """Calls at once all get their answers, in every event loop, and nothing is left open."""
    shared = model_at("http://127.0.0.1").server

    async def run() -> list[str]:
        async with serving(body(completion("x")), hang_up, body(completion("y"))) as served:
            model = OpenAIModel("m", replace(shared, url=f"{served.base_url}/chat/completions"))
            return [answer.text for answer in await asyncio.gather(*(model.complete(ASKED) for _ in range(8)))]

    for _ in range(2):
        assert sorted(asyncio.run(run())) == ["x", *["y"] * 7]
    gc.collect()


def test_a_reader_that_stops_leaves_nothing_open() -> None:
    """A stream that is closed half-way closes its connection."""

    async def run() -> str:
        async with serving(stalled(HI[0])) as served:
            pieces = model_at(served.base_url).stream(ASKED)
            first = await anext(pieces)
            await cast("AsyncGenerator[str, None]", pieces).aclose()
            return first

    assert asyncio.run(run()) == "H"
    gc.collect()


def test_a_cancelled_call_leaves_nothing_open() -> None:
    """A call can be given up while it waits."""

    async def run() -> None:
        async with serving(stalled()) as served:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(model_at(served.base_url).complete(ASKED), 0.1)

    asyncio.run(run())
    gc.collect()


@pytest.mark.parametrize(
    ("name", "environ", "model", "url"),
    [
        ("gpt", {}, "gpt", "https://api.openai.com/v1/chat/completions"),
        ("gpt", {"OPENAI_BASE_URL": "http://h:1/v1/"}, "gpt", "http://h:1/v1/chat/completions"),
        ("@cf/m@2", {"OPENAI_BASE_URL": "http://h/v1"}, "@cf/m@2", "http://h/v1/chat/completions"),
        ("m@http://[::1]:8/v1", {"OPENAI_BASE_URL": "http://h"}, "m", "http://[::1]:8/v1/chat/completions"),
        ("m@https://h/v1/chat/completions", {}, "m", "https://h/v1/chat/completions"),
    ],
)
def test_a_name_says_model_and_server(name: str, environ: dict[str, str], model: str, url: str) -> None:
    """The server stands after the model, or in the environment, or is OpenAI's."""
    loaded = load(name, environ)
    assert (loaded.model, loaded.server.url) == (model, url)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "m@http://",
        "m@http://h:x/v1",
        "m@http://[::1/v1",
        "m@http://h:0",
        f"m@http://u:{KEY}@h/v1",
        f"m@http://h?k={KEY}",
    ],
)
def test_a_name_of_another_form_is_misuse(name: str) -> None:
    """A bad address is told at once, without what may be a password in it."""
    with pytest.raises(MisuseError) as caught:
        load_model(f"openai:{name}")
    assert KEY not in str(caught.value)
