"""An Aligner that is served elsewhere."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxies import proxied

from aligner.errors import MissingExtraError, MisuseError, ModelError
from aligner.integrations.remote import Corrector, RemoteAligner, Said, corrector_of, imported
from aligner.records import Correction, Message, apply_edits
from aligner.serving.wire import joined
from aligner.testing import serving
from aligner.testing.script import always, json_body, refusal
from aligner.testing.upstream import Upstream

_ANSWER = "Paris lies on the Seine 🎉"


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


async def both(aligner: RemoteAligner, question: Any, answer: str) -> tuple[Correction, Correction]:
    """What both ways of asking give."""
    return await asyncio.to_thread(aligner.correct, question, answer), await aligner.acorrect(question, answer)


@pytest.mark.parametrize("question", ["Where?", (Message("system", "Be short."), Message("user", "Where?"))])
@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_a_served_aligner_corrects_as_one_in_this_process(rules: str, question: Any, end: str) -> None:
    """Text, edits and the reason for keeping are the same, by either way of asking."""

    async def run() -> None:
        async with proxied(aligner=rules) as proxy:
            here = corrector_of(rules).correct(question, _ANSWER)
            for there in await both(RemoteAligner(proxy.url + end), question, _ANSWER):
                assert (there.text, there.edits, there.kept_reason) == (here.text, here.edits, here.kept_reason)
                assert there.exchange == here.exchange
                assert there.changed
                assert apply_edits(_ANSWER, there.edits) == there.text

    asyncio.run(run())


@asynccontextmanager
async def answering(status: int, body: object) -> AsyncGenerator[str, None]:
    """A server that answers everything in one way."""
    script = json_body(body) if status == 200 else refusal(status, "no", "no")
    async with serving(Upstream(always(script))) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, None, ModelError),
        (400, None, ModelError),
        (401, None, MisuseError),
        (404, None, MisuseError),
        (200, {}, ModelError),
        (200, [], ModelError),
        (200, {"correction": 7}, ModelError),
    ],
)
def test_only_an_aligner_that_fails_is_a_failure(status: int, body: object, kind: type[Exception]) -> None:
    """A wrong key or path is the operator's mistake, which nothing may take for a failure."""

    async def run() -> None:
        async with answering(status, body) as url:
            with pytest.raises(kind, match="/v1/aligner/correct: "):
                await asyncio.to_thread(RemoteAligner(url).correct, "q", "a")
            with pytest.raises(kind, match="/v1/aligner/correct: "):
                await RemoteAligner(url).acorrect("q", "a")

    asyncio.run(run())


def test_a_server_that_is_down_or_slow_is_a_failure() -> None:
    """Nobody waits longer than was said, and the message names the server."""

    async def fails(aligner: RemoteAligner) -> None:
        with pytest.raises(ModelError, match=r"/v1/aligner/correct: .*aligner serve"):
            await asyncio.to_thread(aligner.correct, "q", "a")
        with pytest.raises(ModelError, match=r"/v1/aligner/correct: .*aligner serve"):
            await aligner.acorrect("q", "a")

    with socket.create_server(("127.0.0.1", 0)) as silent:  # connected to, and never read
        aligner = RemoteAligner(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)
        asyncio.run(fails(aligner))
    asyncio.run(fails(aligner))


def test_the_key_goes_along_and_is_never_shown(rules: str) -> None:
    """A server with a key takes only that one, and the object does not show it."""

    async def run() -> None:
        async with proxied(aligner=rules, environ={"ALIGNER_API_KEY": "canary"}) as proxy:
            aligner = RemoteAligner(proxy.url, "canary")
            assert "canary" not in repr(aligner)
            for there in await both(aligner, "q", _ANSWER):
                assert there.changed
            with pytest.raises(MisuseError, match="key"):
                await RemoteAligner(proxy.url, "wrong").acorrect("q", _ANSWER)

    asyncio.run(run())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://host", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(MisuseError, match="is not like http"):
        RemoteAligner(url)


def test_a_corrector_is_taken_by_url_by_name_or_as_it_is(rules: str) -> None:
    """One word decides where the Aligner runs."""
    given = corrector_of(rules)
    assert given.correct("q", "Paris").text == "Lutetia"
    assert corrector_of(given) is given
    served: Corrector = corrector_of("http://127.0.0.1:1", key="k", seconds=2)
    assert served == RemoteAligner("http://127.0.0.1:1", "k", 2)


def test_a_served_aligner_needs_no_model_library() -> None:
    """Neither torch nor what reads checkpoints is imported to ask a server."""
    code = (
        "import sys; from aligner.integrations.remote import corrector_of; corrector_of('http://127.0.0.1:1');"
        "assert not {'torch', 'transformers', 'tokenizers', 'numpy', 'starlette', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_CHAT = {"messages": [{"role": "user", "content": "Where?"}]}


@pytest.mark.parametrize(
    ("request_", "choice"),
    [
        (_CHAT, {"message": {"content": "a", "tool_calls": [{}]}, "finish_reason": "stop"}),
        (_CHAT, {"message": {"content": "a"}, "finish_reason": "length"}),
        (_CHAT, {"message": {"content": "a"}, "finish_reason": None}),
        (_CHAT, {"message": {"content": " "}, "finish_reason": "stop"}),
        (_CHAT, {"message": {"content": "a", "refusal": "no"}, "finish_reason": "stop"}),
        (
            {**_CHAT, "response_format": {"type": "json_object"}},
            {"message": {"content": "{}"}, "finish_reason": "stop"},
        ),
        ({"messages": []}, {"message": {"content": "a"}, "finish_reason": "stop"}),
        ({}, {"text": "a", "finish_reason": "stop"}),
    ],
)
def test_what_the_proxy_leaves_alone_is_left_alone_here(request_: Any, choice: Any) -> None:
    """Tool calls, unfinished, empty and refused answers, JSON, and answers without a question."""
    assert Said(request_, choice).exchange is None


@given(question=st.text(min_size=1).filter(str.strip), answer=st.text(min_size=1).filter(str.strip))
def test_question_and_answer_are_taken_as_they_are(question: str, answer: str) -> None:
    """Of chats and of text completions, whatever the text."""
    chat = Said(
        {"messages": [{"role": "user", "content": question}]},
        {"message": {"content": answer}, "finish_reason": "stop"},
    )
    text = Said({"prompt": question}, {"text": answer, "finish_reason": "stop"})
    for said in (chat, text):
        assert said.exchange is not None
        assert (said.exchange.question, said.exchange.answer) == (question, answer)


@given(texts=st.lists(st.lists(st.text(), min_size=1), min_size=1, max_size=3), shuffle=st.randoms())
def test_a_stream_of_chunks_is_the_answers_that_they_make(texts: list[list[str]], shuffle: Any) -> None:
    """Whichever order the choices come in."""
    order = [index for index, pieces in enumerate(texts) for _ in pieces]
    shuffle.shuffle(order)
    left = [iter(pieces) for pieces in texts]
    deltas: list[dict[str, Any]] = [
        {"index": i, "delta": {"role": "assistant", "content": next(left[i])}} for i in order
    ]
    deltas += [{"index": index, "delta": {}, "finish_reason": "stop"} for index in range(len(texts))]
    found = joined(deltas)
    assert [choice["message"]["content"] for choice in found] == ["".join(pieces) for pieces in texts]
    assert [(choice["index"], choice["finish_reason"]) for choice in found] == [(i, "stop") for i in range(len(texts))]


def test_a_package_that_is_missing_is_named_with_its_cure() -> None:
    """In one line."""
    with pytest.raises(MissingExtraError, match=r"^no_such_package\.part is not installed: pip install 'langchain'"):
        imported("no_such_package.part", "langchain")
