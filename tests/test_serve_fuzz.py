"""Laws of the proxy for whatever a client sends and whatever an upstream answers."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
import pytest
from fuzzing import NO_HTTP, Fuzzed, Reply, fuzzed, request, sent_back, streaming
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aligner.testing.script import Asked, Chunk, Ending, Script, whole

MODES = ("off", "shadow", "correct", "gate")
OWN = {400, 401, 404, 413, 415, 422, 429, 431, 502, 503, 504}
"""the statuses of errors that are the proxy's own"""

SHORT = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
LONG = settings(SHORT, max_examples=4000)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """Every mode may be asked for, and the Aligner changes a letter that is often there, and often not."""
    rules = tmp_path_factory.mktemp("fuzz") / "rules.json"
    rules.write_bytes(orjson.dumps([{"pattern": "a", "replace": "é"}]))
    with fuzzed(aligner=f"rules:{rules}", allow=MODES, gate=0.5, patience=0.3, heartbeat=0.2, json="correct") as found:
        yield found


TEXT = st.text(st.characters(codec=None) | st.sampled_from('aa \n\r\t\0\u2028🎉"\\{}'), max_size=20)
NUMBER = st.integers() | st.floats() | st.sampled_from([2**53 + 1, 2**64, -(2**64), 10**400, 1e308, 5e-324, -0.0])
SCALAR = st.none() | st.booleans() | NUMBER | TEXT
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
NAME = st.sampled_from(["assistant", "user", "system", "tool", "developer"])


def mostly(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[Any]:
    """What is right, and now and then anything."""
    return st.integers(0, 7).flatmap(lambda number: usual if number else rare)


PART = st.fixed_dictionaries({"type": mostly(st.just("text"))}, optional={"text": mostly(TEXT), "image_url": JSON})
CONTENT = mostly(TEXT | st.lists(mostly(PART), max_size=3) | st.none())
MESSAGE = st.fixed_dictionaries(
    {"role": mostly(NAME), "content": CONTENT},
    optional={"name": JSON, "tool_calls": JSON, "refusal": mostly(st.none()), "audio": JSON, "annotations": JSON},
)
CHOICE = st.fixed_dictionaries(
    {"index": mostly(st.integers(0, 2)), "finish_reason": mostly(st.sampled_from(["stop", None, "length"]))},
    optional={"message": mostly(MESSAGE), "delta": mostly(MESSAGE), "text": mostly(TEXT), "logprobs": JSON},
)
COMPLETION = st.fixed_dictionaries(
    {"choices": mostly(st.lists(mostly(CHOICE), max_size=3))},
    optional={"id": mostly(TEXT), "usage": JSON, "error": JSON, "model": JSON, "object": JSON},
)
OURS = st.fixed_dictionaries({}, optional={"mode": mostly(st.sampled_from(MODES)), "report": mostly(st.booleans())})
ASKED = st.fixed_dictionaries(
    {"model": mostly(TEXT), "messages": mostly(st.lists(mostly(MESSAGE), max_size=3))},
    optional={
        "prompt": mostly(TEXT | st.lists(TEXT, max_size=3)),
        "stream": mostly(st.booleans()),
        "stream_options": mostly(st.fixed_dictionaries({"include_usage": mostly(st.booleans())})),
        "n": mostly(st.integers(-1, 3)),
        "stop": mostly(TEXT | st.lists(TEXT, max_size=2)),
        "response_format": mostly(st.fixed_dictionaries({"type": st.sampled_from(["json_object", "text"])})),
        "aligner": mostly(OURS),
        "choices": mostly(st.lists(mostly(CHOICE), max_size=3)),  # which the upstream sends back
    },
)


def spelt(value: object, *, escaped: bool) -> bytes:
    """A value as JSON, also what JSON does not allow, such as NaN and lone surrogates."""
    return json.dumps(value, ensure_ascii=escaped).encode(errors="surrogatepass")


def nested(depth: int) -> bytes:
    """A request that is right, but for a field that is nested deeply."""
    deep = b"[" * depth + b"]" * depth
    return b'{"model":"m","messages":[{"role":"user","content":"q"}],"aligner":{},"x":' + deep + b"}"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies of requests: right, almost right, and broken."""
    made: bytes = draw(
        st.builds(spelt, ASKED, escaped=st.booleans())
        | st.builds(spelt, JSON, escaped=st.booleans())
        | st.sampled_from([100, 250, 260, 1000, 1100, 100_000]).map(nested)
        | st.binary(max_size=60)
    )
    start, end = sorted((draw(st.integers(0, len(made))), draw(st.integers(0, len(made)))))
    how = draw(st.integers(0, 9))
    if how == 0:
        return made[:start] + made[end:]
    if how == 1:
        return made[:end] + made[start:]  # also a key that is there twice
    return made


PATHS = st.sampled_from([b"/v1/chat/completions", b"/v1/completions"])
MODE = st.sampled_from([mode.encode() for mode in MODES])


def judge(reply: Reply, sent: Script | None = None) -> None:
    """What holds for every reply: it ends, and an error that is not the upstream's own is one in OpenAI's shape."""
    assert reply.status, "no answer"
    assert reply.complete, reply
    if sent is not None and reply.status == sent.status and reply.body == sent.body:
        return
    assert reply.status != 500, reply
    if reply.status >= 400:
        assert reply.error is not None, reply
        assert reply.status in OWN
        assert reply.headers["content-type"] == "application/json"


def judge_stream(reply: Reply, sent: Script) -> None:
    """A stream of the proxy has its [DONE], unless its upstream ended it well and without that."""
    if reply.status == 200 and reply.headers.get("content-type", "").startswith("text/event-stream"):
        tail = reply.body.rstrip()
        ended_without = sent.ending == "end" and not sent.body.rstrip().endswith(b"[DONE]")
        # What an upstream sends behind its own [DONE] is passed on; clients have stopped reading.
        assert b"[DONE]" in tail or ended_without, reply


@SHORT
@given(body=bodies(), path=PATHS, mode=MODE)
def test_any_body_is_answered(proxy: Fuzzed, body: bytes, path: bytes, mode: bytes) -> None:
    """With the upstream's answer or with an error in OpenAI's shape, never with status 500; nothing hangs."""
    any_body(proxy, body, path, mode)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@LONG
@given(body=bodies(), path=PATHS, mode=MODE)
def test_any_body_of_very_many_is_answered(proxy: Fuzzed, body: bytes, path: bytes, mode: bytes) -> None:
    """The same, for longer."""
    any_body(proxy, body, path, mode)


def any_body(proxy: Fuzzed, body: bytes, path: bytes, mode: bytes) -> None:
    """One request with that body."""
    scripts: list[Script] = []

    def answering(asked: Asked) -> Script:
        scripts.append(sent_back(asked))
        return scripts[-1]

    reply = proxy.send(request(body, path, headers={b"x-aligner-mode": mode}), answering)
    judge(reply, scripts[-1] if scripts else None)
    if scripts:
        judge_stream(reply, scripts[-1])


@pytest.mark.parametrize("depth", [200, 253, 254, 255, 256, 1020, 5000])
@pytest.mark.parametrize("mode", MODES)
def test_any_depth_is_answered(proxy: Fuzzed, depth: int, mode: str) -> None:
    """Where one library reads what another limit forbids to write, a request is refused in words or passed on."""
    any_body(proxy, nested(depth), b"/v1/chat/completions", mode.encode())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("depth", [253, 254, 255, 1020, 5000])
def test_an_answer_of_any_depth_is_corrected_or_refused(proxy: Fuzzed, depth: int, streamed: bool) -> None:
    """Also where its text changes, so that it has to be written anew."""
    deep = "[" * depth + "]" * depth
    said = "delta" if streamed else "message"
    answer = f'{{"choices":[{{"index":0,"{said}":{{"content":"a"}},"finish_reason":"stop"}}],"x":{deep}}}'
    script = streaming(f"data: {answer}\n\ndata: [DONE]\n\n".encode()) if streamed else whole(answer.encode())
    body = orjson.dumps({"messages": [{"role": "user", "content": "q"}], "stream": streamed})
    judge(proxy.send(request(body), lambda _: script), script)


HEADER = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30).map(
    lambda text: text.encode("latin-1")
)
TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~", min_size=1, max_size=12).map(str.encode)
KNOWN = st.sampled_from(
    b"authorization x-aligner-mode content-type accept traceparent x-request-id user-agent idempotency-key "
    b"x-aligner-conversation cookie content-encoding expect upgrade".split()
)
HEADERS = st.dictionaries((KNOWN | TOKEN).filter(lambda name: name not in _FRAMING), HEADER, max_size=5)
_FRAMING = {b"host", b"connection", b"content-length", b"transfer-encoding"}


@SHORT
@given(headers=HEADERS, path=PATHS, streamed=st.booleans())
def test_any_header_is_answered(proxy: Fuzzed, headers: dict[bytes, bytes], path: bytes, streamed: bool) -> None:
    """What is odd in a header is passed on, left out or refused in words."""
    payload = {"messages": [{"role": "user", "content": "a"}], "prompt": "a", "stream": streamed}
    scripts: list[Script] = []

    def answering(asked: Asked) -> Script:
        scripts.append(sent_back(asked))
        return scripts[-1]

    reply = proxy.send(request(orjson.dumps(payload), path, headers=headers), answering)
    if reply.body != NO_HTTP:
        judge(reply, scripts[-1] if scripts else None)


LETTER = st.characters(min_codepoint=33, max_codepoint=255, exclude_characters=" \x7f").map(
    lambda letter: letter.encode("latin-1")
)
ESCAPED = st.integers(0, 255).map(lambda number: b"%%%02X" % number)
PIECES = st.lists(LETTER | ESCAPED | st.sampled_from([b"/", b"..", b"%", b"?", b"#", b"%2e%2e", b"@", b"%C3%A9"]))
TARGETS = st.builds(
    lambda start, pieces: start + b"".join(pieces),
    st.sampled_from(
        [b"/", b"/v1/", b"/v1/models/", b"/v1/aligner/corrections/", b"/v1/files/", b"/v1//", b"//", b"/v1"]
    ),
    PIECES,
)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"PROPFIND"])


@SHORT
@given(target=TARGETS, method=METHODS, body=st.binary(max_size=20))
def test_any_path_is_answered_and_none_leaves_the_upstreams_own(
    proxy: Fuzzed, target: bytes, method: bytes, body: bytes
) -> None:
    """Relayed as it is below the configured URL, or refused in words."""
    seen: list[Asked] = []
    script = whole(b'{"object":"upstream"}')

    def answering(asked: Asked) -> Script:
        seen.append(asked)
        return script

    reply = proxy.send(request(body, target, method), answering)
    if reply.body == NO_HTTP:
        return
    judge(reply, script)
    for asked in seen:
        assert asked.path.startswith("/v1/"), (target, asked.path)
        assert ".." not in asked.path.split("/"), (target, asked.path)


SEGMENT = st.lists(
    st.sampled_from([*"abcXYZ019-_~:@!$'()*,;=&+", "%2F", "%3F", "%23", "%25", "%20", "%C3%A9", "%E2%80%A8"]),
    min_size=1,
)


@SHORT
@given(segments=st.lists(SEGMENT.map("".join), min_size=1, max_size=3), query=SEGMENT)
def test_a_relayed_path_means_the_same_to_the_upstream(proxy: Fuzzed, segments: list[str], query: list[str]) -> None:
    """Escaped signs stay escaped: an id with a slash, a question mark or a number sign in it is still one id."""
    target = "/v1/things/" + "/".join(segments)
    question = "".join(query)
    seen: list[Asked] = []

    def answering(asked: Asked) -> Script:
        seen.append(asked)
        return whole(b"{}")

    reply = proxy.send(request(b"", f"{target}?{question}".encode(), b"GET"), answering)
    judge(reply, whole(b"{}"))
    assert [asked.path.encode() for asked in seen] == [unquote_to_bytes(target)]
    assert unquote_to_bytes(seen[0].query) == unquote_to_bytes(question)


SEEN = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cs"]), max_size=20)
TYPES = ["application/json", "text/event-stream", "text/event-stream; charset=utf-8", "text/html", "x", ""]
EVENTS = st.one_of(
    st.builds(lambda value: b"data: " + spelt(value, escaped=True), mostly(COMPLETION)),
    st.just(b"data: [DONE]"),
    st.sampled_from([b": comment", b"event: x", b"data:", b"data: {", b"id: 1\ndata: {}", b'data: {"error":"a"}']),
    st.binary(max_size=20),
)
LINE_ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"])
STREAMS = st.lists(st.tuples(EVENTS, LINE_ENDS).map(b"".join), max_size=5).map(b"".join)
ANSWERS = st.one_of(
    st.builds(spelt, mostly(COMPLETION), escaped=st.booleans()), STREAMS, STREAMS, st.binary(max_size=40)
)


ENDINGS: tuple[Ending, ...] = ("end", "end", "end", "end", "cut")
ENDING = mostly(st.sampled_from(ENDINGS), st.sampled_from(["stall", "cut"]))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Upstreams that answer well, badly, and not at all."""
    body, status = draw(ANSWERS), draw(mostly(st.just(200), st.sampled_from([201, 301, 400, 404, 429, 500, 503, 599])))
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    parts = [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
    kind = draw(st.sampled_from(TYPES))
    ending = draw(ENDING)
    extra = draw(st.dictionaries(st.sampled_from(["retry-after", "x-odd", "set-cookie"]), SEEN, max_size=2))
    headers = (("content-type", kind), *extra.items())
    return Script(
        status=status,
        headers=headers,
        chunks=tuple(map(Chunk, parts)),
        ending=ending,
        head=draw(mostly(st.just(True), st.just(False))) or ending == "end",
    )


@pytest.mark.slow
@SHORT
@given(script=scripts(), path=PATHS, mode=MODE, streamed=st.booleans())
def test_any_upstream_is_survived(proxy: Fuzzed, script: Script, path: bytes, mode: bytes, streamed: bool) -> None:
    """Whatever it answers, the client gets a whole answer or an error in OpenAI's shape; a stream has its end."""
    any_upstream(proxy, script, path, mode, streamed=streamed)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # among its upstreams are many that are waited for
@LONG
@given(script=scripts(), path=PATHS, mode=MODE, streamed=st.booleans())
def test_any_upstream_of_very_many_is_survived(
    proxy: Fuzzed, script: Script, path: bytes, mode: bytes, streamed: bool
) -> None:
    """The same, for longer."""
    any_upstream(proxy, script, path, mode, streamed=streamed)


def any_upstream(proxy: Fuzzed, script: Script, path: bytes, mode: bytes, *, streamed: bool) -> None:
    """One request to that upstream."""
    payload = {"model": "m", "messages": [{"role": "user", "content": "q"}], "prompt": "q", "stream": streamed}
    reply = proxy.send(request(orjson.dumps(payload), path, headers={b"x-aligner-mode": mode}), lambda _: script)
    if mode in (b"off", b"shadow"):
        relayed(reply, script)
        return
    judge(reply, script)
    judge_stream(reply, script)
    if reply.status == 200 and not streamed and reply.body != script.body:
        assert isinstance(orjson.loads(reply.body)["choices"], list)


def relayed(reply: Reply, script: Script) -> None:
    """What is passed on as it is: all of it, or what came and then a sign that it broke off."""
    if not script.head or script.ending == "end":
        judge(reply, script)
        return
    assert reply.status in {script.status, 502, 504}, reply
    begun = script.body
    if reply.status == script.status and reply.complete and reply.body != begun:
        # Only a stream of events can say in itself that it broke off.
        assert script.streamed, reply
        assert reply.body.startswith(begun)
        assert reply.body.endswith(b"data: [DONE]\n\n")
