"""Laws of an Aligner on a server, against a real server on loopback that hosts a tiny random one."""

import asyncio
import gc
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from chat_server import Answer, Served, body, event, hang_up, serving, stalled, stream
from completions_server import Crowd, Hosted, text_completion
from tiny import EXCHANGES, exact_writer, tiny_aligner, tiny_model
from tiny import written as told

from aligner.correct import Aligner
from aligner.correcting.lm_writer import LMWriter
from aligner.correcting.remote_writer import RemoteWriter, load_remote
from aligner.correcting.writers import load_writer
from aligner.errors import CheckpointError, MisuseError, ModelError
from aligner.models.server import Retries
from aligner.records import Completion, Exchange, SamplingParams, Usage

T = TypeVar("T")
GREEDY = SamplingParams()
QUICK = Retries(attempts=3, first_wait=0.001, longest_wait=0.01, jitter=0.0)
KEY = "sk-canary-4711"
LONG = Exchange("why " * 300, "so")
ASKED = Exchange("What?", "no.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_aligner(tmp_path_factory.mktemp("aligner"))


@pytest.fixture(scope="module")
def local(folder: Path) -> LMWriter:
    return exact_writer(folder)


@pytest.fixture(scope="module")
def hosted(folder: Path) -> Hosted:
    return Hosted(folder)


def writer_at(folder: Path, base_url: str, *, key: str = "") -> RemoteWriter:
    writer = load_remote(f"{folder}@{base_url}", {"OPENAI_API_KEY": key})
    return replace(writer, server=replace(writer.server, retries=QUICK))


def using(folder: Path, answer: Answer, use: Callable[[RemoteWriter], T], **options: Any) -> tuple[T, Served]:
    """What comes of using a writer, in a plain thread, while its server gives that answer."""

    async def run() -> tuple[T, Served]:
        async with serving(answer) as served:
            return await asyncio.to_thread(lambda: use(writer_at(folder, served.base_url, **options))), served

    return asyncio.run(run())


def streamed(writer: Any, exchange: Exchange, sampling: SamplingParams = GREEDY) -> tuple[list[str], Completion]:
    """The pieces of a stream and what it returns."""
    pieces: list[str] = []
    coming = writer.stream(exchange, sampling)
    while True:
        try:
            pieces.append(next(coming))
        except StopIteration as end:
            return pieces, end.value


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(max_tokens=3)])
def test_a_remote_aligner_writes_what_a_local_one_writes(
    folder: Path, local: LMWriter, hosted: Hosted, sampling: SamplingParams
) -> None:
    """Text, finish reason and usage are the same, in order; some texts end, others are cut off, one does not fit."""
    exchanges = [*EXCHANGES, LONG, *EXCHANGES[:2]]
    written, served = using(folder, hosted, lambda remote: remote.write(exchanges, sampling, batch=4))
    expected = local.write(exchanges, sampling)
    assert list(map(told, written)) == list(map(told, expected))
    assert {completion.finish_reason for completion in written} >= {"length", "context"}
    assert len(served.payloads) == len(exchanges) - 1
    if sampling is GREEDY:
        assert "stop" in {completion.finish_reason for completion in written}


def test_a_stream_adds_up_to_what_is_written(folder: Path, hosted: Hosted) -> None:
    """The pieces are the text of the completion that is written at once, and the last value is that completion."""

    def use(remote: RemoteWriter) -> None:
        for exchange in (*EXCHANGES[:4], LONG):
            pieces, completion = streamed(remote, exchange)
            assert "".join(pieces) == completion.text
            assert len(pieces) > 1 or exchange is LONG
            assert [completion] == remote.write([exchange], GREEDY)

    using(folder, hosted, use)


def test_a_stop_string_ends_the_text(folder: Path, local: LMWriter, hosted: Hosted) -> None:
    """The text ends before it, streamed or not, and was not cut off."""
    text, exchange = max((local.write([exchange], GREEDY)[0].text, exchange) for exchange in EXCHANGES)
    stop = text[len(text) // 2 :][:3]
    sampling = SamplingParams(stop=("never said", stop))
    ((whole,), (pieces, end)), _ = using(
        folder, hosted, lambda remote: (remote.write([exchange], sampling), streamed(remote, exchange, sampling))
    )
    assert (whole.text, whole.finish_reason) == (text[: text.index(stop)], "stop")
    assert "".join(pieces) == end.text == whole.text
    assert end.finish_reason == "stop"


def test_the_server_is_asked_in_token_ids(folder: Path, local: LMWriter) -> None:
    """The prompt is the one a local writer reads, with the room that is left, and sampling is in OpenAI's words.

    So what an answer contains is text to the server, also where it names a control token.
    """
    hostile = Exchange("<|answer|>", "<|correction|>")
    sampling = SamplingParams(temperature=0.5, top_p=0.9, top_k=7, stop=("\n",), seed=0)
    _, served = using(folder, body(text_completion("x")), lambda remote: remote.write([hostile], sampling))
    prompt = local.encoder.prompt_ids(hostile.question, hostile.answer)
    words = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop": ["\n"], "seed": 0}
    asked = {"model": str(folder), "prompt": prompt, "max_tokens": local.context - len(prompt)}
    assert served.payloads == [asked | words]


@pytest.mark.parametrize("predicts", [True, False])
def test_a_prediction_is_sent_only_where_it_is_taken(folder: Path, *, predicts: bool) -> None:
    """The answer is the draft, and what became of it is counted where the server says so."""
    usage = {"completion_tokens_details": {"accepted_prediction_tokens": 5, "rejected_prediction_tokens": 2}}
    counted = usage | {"prompt_tokens": 9, "completion_tokens": 7}
    ((completion,), served) = using(
        folder,
        body(text_completion("x", usage=counted)),
        lambda remote: replace(remote, predicts=predicts).write([ASKED], GREEDY),
    )
    draft = {"type": "content", "content": ASKED.answer} if predicts else None
    assert served.payloads[0].get("prediction") == draft
    assert completion.usage == Usage(9, 7, accepted_prediction_tokens=5, rejected_prediction_tokens=2)


def test_usage_may_be_left_out(folder: Path, local: LMWriter) -> None:
    """The length of the prompt is known without the server."""
    (completion,), _ = using(folder, body(text_completion("x")), lambda remote: remote.write([ASKED], GREEDY))
    assert completion == Completion("x", "stop", Usage(len(local.encoder.prompt_ids(ASKED.question, ASKED.answer))))


@pytest.mark.parametrize("batch", [1, 3])
def test_no_more_requests_than_the_batch_are_in_flight(folder: Path, batch: int) -> None:
    """As many as the batch are under way together, and never more; results come in order."""

    async def run() -> None:
        crowd = Crowd(batch)
        async with serving(crowd) as served:
            remote = writer_at(folder, served.base_url)
            exchanges = [Exchange("q", "a" * length) for length in (9, 3, 7, 1, 8, 2, 6, 4, 5)]
            written = await asyncio.to_thread(remote.write, exchanges, GREEDY, batch=batch)
        assert crowd.most == batch
        prompts = [remote.encoder.prompt_ids(exchange.question, exchange.answer) for exchange in exchanges]
        assert [int(completion.text) for completion in written] == list(map(len, prompts))

    asyncio.run(run())


FAILURES = [
    (body("<html>\n<b>Hello</b></html>", content_type="text/html"), "status 200, but no valid JSON: <html> <b>Hello"),
    (body({"error": {"message": "boom"}}), "status 200, but an error instead of an answer"),
    (body({"choices": []}), "status 200, but no text in the answer"),
    (body(text_completion(None)), "status 200, but no text in the answer"),
    (body(text_completion("x", None)), "status 200, but no finish reason in the answer"),
    (body("boom", 500), "status 500: boom"),
    (body({"error": "context"}, 400), 'status 400: {"error": "context"}'),
    (body(f"bad key {KEY}!", 401), "status 401; set OPENAI_API_KEY to a key of this server: bad key ***!"),
    (hang_up, "Server disconnected"),
]
BROKEN = [
    (stream(event(text_completion("H", None))), "the stream ended before the answer did"),
    (stream(event(text_completion("H", None)), event(b"[DONE]")), "the stream ended before the answer did"),
    (stream(event(text_completion("H", None)), event({"error": "boom"})), "an error instead of an answer"),
    (stream(event(text_completion(None)), event(b"[DONE]")), "no text in the answer"),
    (stream(event(text_completion("H", None)), cut=True), "the answer was cut off"),
]


@pytest.mark.parametrize(
    ("answer", "problem", "stream_it"),
    [(*failure, False) for failure in FAILURES] + [(*failure, True) for failure in FAILURES + BROKEN],
)
def test_what_cannot_be_used_is_one_clear_line(folder: Path, answer: Answer, problem: str, *, stream_it: bool) -> None:
    """The error names the address and what is wrong, and never the key; nothing passes for a correction."""

    def use(remote: RemoteWriter) -> str:
        with pytest.raises(ModelError) as caught:
            streamed(remote, ASKED) if stream_it else remote.write([ASKED, ASKED], GREEDY)
        assert str(caught.value).startswith(f"{remote.server.url}: ")
        assert KEY not in f"{caught.value} {remote!r}"
        return str(caught.value)

    line, served = using(folder, answer, use, key=KEY)
    assert problem in line
    assert "\n" not in line
    assert served.headers[0]["Authorization"] == f"Bearer {KEY}"
    gc.collect()


def test_a_passing_failure_is_tried_again(folder: Path, hosted: Hosted) -> None:
    """A server that is busy for a moment does no harm."""

    async def run() -> None:
        async with serving(body("busy", 503), hosted) as served:
            remote = writer_at(folder, served.base_url)
            assert len(await asyncio.to_thread(remote.write, EXCHANGES[:2], GREEDY)) == 2
            assert len(served.payloads) == 3

    asyncio.run(run())


def test_a_server_that_is_down_is_one_clear_line(folder: Path) -> None:
    """A closed port names the server and a cure."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        remote = writer_at(folder, f"http://127.0.0.1:{closed.getsockname()[1]}/v1")
        with pytest.raises(ModelError, match=r"^http://127\.0\.0\.1:\d+/v1/completions: cannot connect: .*running\?$"):
            remote.write(EXCHANGES, GREEDY)


def test_a_server_that_cannot_stream_gives_one_piece(folder: Path) -> None:
    """A completion in answer to a request for a stream is used as it is."""
    (pieces, completion), _ = using(folder, body(text_completion("Hi there")), lambda remote: streamed(remote, ASKED))
    assert (pieces, completion.text) == (["Hi there"], "Hi there")


def test_a_reader_that_stops_leaves_nothing_open(folder: Path) -> None:
    """A stream that is closed half-way ends its request."""

    def use(remote: RemoteWriter) -> str:
        coming = remote.stream(ASKED, GREEDY)
        first = next(coming)
        coming.close()
        return first

    assert using(folder, stalled(event(text_completion("H", None))), use)[0] == "H"
    gc.collect()


def test_a_thread_that_runs_an_event_loop_can_wait_too(folder: Path, hosted: Hosted) -> None:
    """As in a notebook: the caller's own event loop is no obstacle to a plain call, nor to a stream."""

    async def serve(ready: asyncio.Future[str], done: asyncio.Event) -> None:
        async with serving(hosted) as served:
            ready.set_result(served.base_url)
            await done.wait()

    async def run(base_url: str) -> None:
        aligner = Aligner(writer_at(folder, base_url))
        correction = aligner.correct(ASKED.question, ASKED.answer)
        assert correction.usage.completion_tokens > 0
        assert streamed(aligner.writer, ASKED)[1].usage == correction.usage
        assert correction == await aligner.acorrect(ASKED.question, ASKED.answer)

    async def serve_in_another_thread() -> None:
        ready, done = asyncio.get_running_loop().create_future(), asyncio.Event()
        serving_it = asyncio.create_task(serve(ready, done))
        await asyncio.to_thread(lambda url: asyncio.run(run(url)), await ready)
        done.set()
        await serving_it

    asyncio.run(serve_in_another_thread())


def test_only_the_words_of_a_checkpoint_are_needed_here(folder: Path, local: LMWriter, tmp_path: Path) -> None:
    """A folder without weights is enough, and it is reached by its name with the server's address."""
    copy = shutil.copytree(folder, tmp_path / "a", ignore=shutil.ignore_patterns("*.safetensors"))
    remote = load_writer(f"openai:{copy}@http://h:1/v1", "cpu")
    assert isinstance(remote, RemoteWriter)
    assert (remote.model, remote.server.url) == (str(copy), "http://h:1/v1/completions")
    assert (remote.context, remote.predicts) == (local.context, False)
    assert remote.encoder.prompt_ids("q", "a") == local.encoder.prompt_ids("q", "a")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "https://api.openai.com/v1/completions"),
        ({"OPENAI_BASE_URL": "http://h:1/v1/"}, "http://h:1/v1/completions"),
        ({"OPENAI_BASE_URL": "http://h:1/v1/completions"}, "http://h:1/v1/completions"),
        ({"OPENAI_BASE_URL": "http://h:1/v1/chat/completions"}, "http://h:1/v1/completions"),
    ],
)
def test_the_environment_may_name_the_server(folder: Path, environ: dict[str, str], url: str) -> None:
    """Without an address, OPENAI_BASE_URL or else OpenAI's counts, as for other models."""
    assert load_remote(str(folder), environ).server.url == url


def test_a_fingerprint_is_that_of_server_and_checkpoint(folder: Path, tmp_path: Path) -> None:
    """Another server or another card may write otherwise; the same name has the same fingerprint."""
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "aligner.json").write_text((folder / "aligner.json").read_text().replace('"weights": "', '"weights": "0'))
    prints = [
        load_remote(f"{where}@{url}", {}).fingerprint for where in (folder, other) for url in ("http://a", "http://b")
    ]
    assert len(set(prints)) == 4
    assert load_remote(f"{folder}@http://a", {}).fingerprint == prints[0]


def test_a_name_that_is_no_aligner_is_told_apart(folder: Path, tmp_path: Path) -> None:
    """A name of another form, a missing folder, a plain model and a damaged folder are one clear line each."""
    with pytest.raises(MisuseError, match='"openai:" needs a model'):
        load_writer("openai:", "cpu")
    with pytest.raises(MisuseError, match=r"no/such/folder: no such directory"):
        load_writer("openai:no/such/folder@http://h", "cpu")
    with pytest.raises(CheckpointError, match=r"not an Aligner, it has no aligner\.json"):
        load_remote(f"{tiny_model(tmp_path / 'plain')}@http://h", {})
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"damaged: no configuration and tokenizer of a model, or damaged ones: "):
        load_remote(f"{damaged}@http://h", {})
