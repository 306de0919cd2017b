"""What the official client of OpenAI says and hears besides texts: fields, headers, other routes, modes."""

import uuid
from importlib.metadata import version

import pytest
from fuzzing import Fuzzed
from openai_callers import CHAT, MESSAGES, Caller
from openai_served import SAYING_MORE, asked, chat, corrected
from proxies import Proxied

from aligner.testing import SCRIPTS, texts
from aligner.testing.script import json_body

pytestmark = pytest.mark.slow  # two kinds of client, and an engine for each profile: minutes


def test_what_nobody_knows_goes_both_ways(ruled: Proxied, caller: Caller) -> None:
    """Fields of a request reach the upstream, ours excepted, and its own reach the client at every depth."""
    tag = uuid.uuid4().hex
    extra = {"x_top": {"deep": [1, {"er": None}]}, "x_big": 2**62, "aligner": {"mode": "correct"}}
    told = caller.told(
        ruled.url, CHAT, **chat("unknown-fields", user=tag, temperature=1e-7, seed=2**40), extra_body=extra
    )
    (call,) = asked(ruled, tag)
    assert call.asked.payload == {
        **chat("unknown-fields", user=tag, temperature=1e-7, seed=2**40),
        "messages": list(MESSAGES),
        "x_top": extra["x_top"],
        "x_big": 2**62,
    }
    direct = caller.told(ruled.upstream_url, CHAT, **chat("unknown-fields")).value.to_dict()
    direct["choices"][0]["message"]["content"] = corrected(texts.PLAIN)
    assert told.value.to_dict() == direct
    assert told.value.choices[0].message.model_extra["x_inner"] == {"a": "ä"}


def test_a_report_comes_to_those_who_ask_for_it(ruled: Proxied, caller: Caller) -> None:
    """As a field of the completion, under the request's own id, and to no others."""
    told = caller.told(ruled.url, CHAT, **chat("n2", n=2), extra_body={"aligner": {"report": True}})
    report = told.value.model_extra["aligner"]
    assert report["id"] == told.headers["x-aligner-id"]
    assert report["mode"] == "correct"
    assert [(choice["index"], choice["changed"]) for choice in report["choices"]] == [(0, True), (1, True)]
    assert report["version"] == told.headers["x-aligner-version"] == version("aligner-llm")
    assert all(0 < choice["edit_ratio"] < 1 for choice in report["choices"])
    assert report["usage"].keys() == {"prompt_tokens", "completion_tokens"}
    assert "aligner" not in caller.told(ruled.url, CHAT, **chat()).value.model_extra


def test_a_report_ends_a_stream_for_those_who_ask_for_it(ruled: Proxied, caller: Caller) -> None:
    """In a chunk without choices, behind all others, which the accumulator passes over; and in no other stream."""
    wanted = {"extra_body": {"aligner": {"report": True}}}
    chunks = caller.stream(ruled.url, **chat("n2", n=2), **wanted).chunks
    plain = caller.stream(ruled.url, **chat("n2", n=2)).chunks
    assert [chunk.to_dict() for chunk in chunks[:-1]] == [chunk.to_dict() for chunk in plain]
    assert (chunks[-1].choices, chunks[-1].id) == ([], chunks[0].id)
    assert [choice["changed"] for choice in chunks[-1].model_extra["aligner"]["choices"]] == [True, True]
    assert caller.accumulated(ruled.url, **chat(), **wanted).choices[0].message.content == corrected(texts.PLAIN)


def test_headers_go_both_ways_but_for_those_of_a_connection(ruled: Proxied, caller: Caller) -> None:
    """What the client says of itself reaches the upstream; limits and ids of the upstream reach the client."""
    tag, trace = uuid.uuid4().hex, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = {"idempotency-key": "once", "openai-organization": "org", "traceparent": trace, "cookie": "a=b"}
    told = caller.told(ruled.url, CHAT, **chat(user=tag), extra_headers=given)
    sent = asked(ruled, tag)[0].asked.headers
    assert (sent["authorization"], sent["idempotency-key"]) == ("Bearer sk-client", "once")
    assert sent["openai-organization"] == "org"
    assert sent["traceparent"].split("-")[1] == trace.split("-")[1]
    assert sent["user-agent"].startswith(("OpenAI/Python", "AsyncOpenAI/Python"))
    assert sent["x-stainless-lang"] == "python"
    assert sent["accept-encoding"] == "identity"
    assert "cookie" not in sent
    assert not any(name.startswith("x-aligner") for name in sent)
    headers = told.headers
    assert headers["x-request-id"] == headers["x-aligner-id"] == told.value._request_id  # noqa: SLF001  # the client documents it
    assert headers["x-upstream-request-id"] == "req_scripted"
    assert (headers["openai-version"], headers["x-ratelimit-remaining-requests"]) == ("2020-10-01", "99")
    assert (headers["x-aligner-mode"], headers["x-aligner-changed"]) == ("correct", "1")
    assert float(headers["x-aligner-overhead-ms"]) >= 0
    assert float(headers["x-aligner-correct-ms"]) > 0


# Routes


def test_the_models_are_the_upstreams_and_their_aliases(ruled: Proxied, caller: Caller) -> None:
    """One by one, too; an alias chooses a mode, and the upstream is asked for the model itself."""
    listed = {model.id for model in caller.told(ruled.url, "models.list").value.data}
    assert {"unchanged", "raw/unchanged", "aligned/unchanged"} <= listed
    assert {name for name in listed if "/" not in name} == set(SCRIPTS) | set(SAYING_MORE)
    assert caller.told(ruled.url, "models.retrieve", model="unchanged").value.id == "unchanged"
    for name, text in (("raw/unchanged", texts.PLAIN), ("aligned/unchanged", corrected(texts.PLAIN))):
        tag = uuid.uuid4().hex
        assert caller.told(ruled.url, CHAT, **chat(name, user=tag)).value.choices[0].message.content == text
        assert [call.asked.payload["model"] for call in asked(ruled, tag)] == ["unchanged"]


def test_other_routes_are_relayed(ruling: Fuzzed, ruled: Proxied, caller: Caller) -> None:
    """Embeddings, and files with whatever bytes are in them."""
    vector = {"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    made = {"object": "list", "model": "m", "data": [vector], "usage": usage}
    ruling.box[0] = lambda asked: json_body(made if asked.path == "/v1/embeddings" else {"id": "file-1"})
    told = caller.told(ruled.url, "embeddings.create", model="m", input="Paris", encoding_format="float")
    assert told.value.data[0].embedding == [0.25, -1.5]
    assert ruled.upstream.calls[-1].asked.payload["input"] == "Paris"
    content = bytes(range(256)) * 64
    told = caller.told(ruled.url, "files.create", file=("a.bin", content), purpose="batch")
    call = ruled.upstream.calls[-1].asked
    assert told.value.id == "file-1"
    assert (call.path, content in call.body) == ("/v1/files", True)
    assert call.headers["content-type"].startswith("multipart/form-data; boundary=")


# Modes


def test_a_mode_is_chosen_by_header_or_field(ruled: Proxied, caller: Caller) -> None:
    """In both, off and shadow give the original, and say so."""
    for mode in ("off", "shadow", "correct"):
        expected = corrected(texts.PLAIN) if mode == "correct" else texts.PLAIN
        for how in ({"extra_headers": {"x-aligner-mode": mode}}, {"extra_body": {"aligner": {"mode": mode}}}):
            told = caller.told(ruled.url, CHAT, **chat(), **how)
            assert told.value.choices[0].message.content == expected
            assert told.headers["x-aligner-mode"] == mode


@pytest.mark.parametrize(("mode", "live"), [("off", True), ("shadow", True), ("correct", False)])
def test_only_a_corrected_stream_waits_for_the_whole_answer(
    ruled: Proxied, caller: Caller, mode: str, live: bool
) -> None:
    """In the other modes the first chunk comes while the upstream is still writing."""
    found = caller.stream(ruled.url, model="unchanged@20", extra_headers={"x-aligner-mode": mode})
    assert found.text == (texts.PLAIN if live else corrected(texts.PLAIN))
    assert (found.seconds > 0.7) == live
