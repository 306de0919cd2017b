"""The wire of the proxy as the official client of OpenAI reads it: framing, chunks, usage, and what is corrected."""

import json
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai_callers import CHAT, MESSAGES, TEXT, Caller
from openai_served import RULES, SAYING_MORE, TOOLS, asked, chat, corrected, of_choices, plain, served, text_of
from proxies import Proxied

from aligner.testing import SCRIPTS, by_model, texts
from aligner.testing.framing import FRAMINGS
from aligner.testing.named import says

pytestmark = pytest.mark.slow  # two kinds of client, and an engine for each profile: minutes


# Framing


@pytest.mark.parametrize("model", ["unchanged", "n2", "separators", "hostile", "tools"])
def test_a_stream_is_framed_as_every_client_expects(ruled: Proxied, caller: Caller, model: str) -> None:
    """One line of JSON and an empty line for each event, comments between them at most, [DONE] last; never squeezed."""
    headers, body = caller.read(ruled.url, model=model)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    *events, last, rest = body.replace(b": aligner\n\n", b"").split(b"\n\n")
    assert (last, rest) == (b"data: [DONE]", b"")
    assert all(orjson.loads(event.removeprefix(b"data: "))["choices"] for event in events)


@pytest.mark.parametrize("spelling", FRAMINGS)
def test_every_spelling_of_an_upstreams_stream_is_read(ruled: Proxied, caller: Caller, spelling: str) -> None:
    """Line ends, spaces, comments, lines and portions may be as they like."""
    direct = caller.told(ruled.upstream_url, CHAT, stream=True, **chat(spelling, n=2)).value
    through = caller.told(ruled.url, CHAT, stream=True, **chat(spelling, n=2)).value
    before, after = of_choices(plain(direct)), of_choices(plain(through))
    assert {index: text_of(choices) for index, choices in after.items()} == {
        index: corrected(text_of(choices)) for index, choices in before.items()
    }
    assert corrected(text_of(before[0])) != text_of(before[0])


def test_comments_that_keep_a_connection_alive_are_not_seen(ruled: Proxied, caller: Caller) -> None:
    """They come while the upstream writes, and the client reads chunks with choices, and nothing else."""
    _, body = caller.read(ruled.url, model="unchanged@40")
    assert body.count(b": aligner\n\n") >= 2
    chunks = caller.stream(ruled.url, model="unchanged@40").chunks
    assert all(chunk.choices for chunk in chunks)
    assert text_of(of_choices(plain(chunks))[0]) == corrected(texts.PLAIN)


# Chunks

_STREAMS = [
    pytest.param(CHAT, {"model": "unchanged"}, id="one"),
    pytest.param(CHAT, {"model": "n2", "n": 2}, id="two"),
    pytest.param(CHAT, {"model": "unchanged", "n": 3, "stream_options": {"include_usage": True}}, id="three"),
    pytest.param(CHAT, {"model": "unchanged", "n": 2, "logprobs": True, "top_logprobs": 2}, id="logprobs"),
    pytest.param(CHAT, {"model": "unknown-fields"}, id="fields"),
    pytest.param(CHAT, {"model": "azure"}, id="azure"),
    pytest.param(CHAT, {"model": "changing-ids"}, id="ids"),
    pytest.param(CHAT, {"model": "reasoning-content"}, id="reasoning"),
    pytest.param(CHAT, {"model": "usage-on-finish", "stream_options": {"include_usage": True}}, id="usage"),
    pytest.param(TEXT, {"model": "n2", "n": 2, "logprobs": 2}, id="text"),
]


@pytest.mark.parametrize(("path", "fields"), _STREAMS)
def test_chunks_are_the_upstreams_own_but_for_the_text(
    ruled: Proxied, caller: Caller, path: str, fields: dict[str, Any]
) -> None:
    """Choices begin in order, each with its role, ends once, and what our chunks hold besides is what its own hold."""
    given = {"messages": MESSAGES} if path == CHAT else {"prompt": "Which is the capital?"}
    direct, through = (
        plain(caller.told(url, path, stream=True, **given, **fields).value) for url in (ruled.upstream_url, ruled.url)
    )
    heads = [{name: value for name, value in chunk.items() if name != "choices"} for chunk in direct]
    assert all({n: v for n, v in chunk.items() if n != "choices"} in heads for chunk in through)
    assert [chunk for chunk in through if not chunk["choices"]] == [chunk for chunk in direct if not chunk["choices"]]
    before, after = of_choices(direct), of_choices(through)
    assert list(after) == list(range(len(before)))
    for index, choices in after.items():
        assert text_of(choices) == corrected(text_of(before[index]))
        assert choices != before[index]
        assert choices[-1] == before[index][-1]
        if path == CHAT:
            assert choices[0] == before[index][0]
            assert choices[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
        keys = {tuple(sorted(choice)) for choice in before[index]}
        for choice in choices:
            assert tuple(sorted(choice)) in keys
            assert choice in before[index] or choice["logprobs"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "unchanged"},
        {"model": "n2", "n": 2, "stream_options": {"include_usage": True}},
        {"model": "tools", "tools": TOOLS},
        {"model": "parallel-tools", "tools": TOOLS},
        {"model": "no-done"},
        {"model": "refusal"},
    ],
    ids=lambda fields: fields["model"],
)
def test_the_clients_accumulator_makes_of_a_stream_what_it_makes_of_the_upstreams(
    ruled: Proxied, caller: Caller, fields: dict[str, Any]
) -> None:
    """All fields of the completion, but for the text."""
    direct, through = (caller.accumulated(url, **fields).to_dict() for url in (ruled.upstream_url, ruled.url))
    for choice in direct["choices"]:
        if choice["message"].get("content") and choice["finish_reason"] == "stop":
            choice["message"]["content"] = corrected(choice["message"]["content"])
    assert through == direct


@pytest.mark.parametrize("model", ["tools", "parallel-tools", "tools-after-text", "tools-resent", "function-call"])
def test_calls_of_tools_come_as_they_were_sent(ruled: Proxied, caller: Caller, model: str) -> None:
    """Delta by delta, ids sent again included."""
    direct, through = (
        plain(caller.told(url, CHAT, stream=True, **chat(model, tools=TOOLS)).value)
        for url in (ruled.upstream_url, ruled.url)
    )
    assert through == direct


# Usage


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": True}])
def test_usage_comes_to_those_who_ask_for_it_and_to_no_others(
    ruled: Proxied, caller: Caller, options: dict[str, bool] | None
) -> None:
    """Null in every chunk, then once and exact in a last one; the upstream is asked for no other."""
    tag = uuid.uuid4().hex
    given: dict[str, Any] = {} if options is None else {"stream_options": options}
    fields = chat(user=tag, **given)
    chunks = plain(caller.told(ruled.url, CHAT, stream=True, **fields).value)
    exact = caller.told(ruled.upstream_url, CHAT, **chat()).value.usage.to_dict()
    assert [call.asked.payload.get("stream_options") for call in asked(ruled, tag)] == [options]
    if options == {"include_usage": True}:
        last = chunks.pop()
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] > 0
        assert last["usage"]["prompt_tokens"] == exact["prompt_tokens"]
        assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


# What is corrected, and what is not


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (chat("cut-off"), "truncated"),
        (chat("called", tools=TOOLS), "tool_calls"),
        (chat("called-function"), "tool_calls"),
        (chat("refused"), "refusal"),
        (chat("withheld"), "content_filter"),
        (chat("spoken", modalities=["text", "audio"]), "audio"),
        (chat("null"), "empty"),
        (chat("empty"), "empty"),
        (chat("blank"), "empty"),
        (chat("json", response_format={"type": "json_object"}), "json"),
        (chat("json", response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": {}}}), "json"),
        (chat(messages=[{"role": "system", "content": "Be brief."}]), "no_question"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["model"],
)
def test_what_is_no_plain_answer_is_left_alone(
    ruled: Proxied, caller: Caller, fields: dict[str, Any], reason: str
) -> None:
    """Also the text that comes with it; a header says why."""
    direct, through = (caller.told(url, CHAT, **fields) for url in (ruled.upstream_url, ruled.url))
    assert through.value.to_dict() == direct.value.to_dict()
    assert (through.headers["x-aligner-skipped"], through.headers["x-aligner-changed"]) == (reason, "0")
    direct, through = (caller.told(url, CHAT, stream=True, **fields) for url in (ruled.upstream_url, ruled.url))
    assert plain(through.value) == plain(direct.value)


def test_an_echoed_prompt_is_no_answer(ruled: Proxied, caller: Caller) -> None:
    """A text completion that repeats what it was asked stays as it is."""
    told = caller.told(ruled.url, TEXT, model="unchanged", prompt="Where?", echo=True)
    assert told.value.choices[0].text == texts.PLAIN
    assert told.headers["x-aligner-skipped"] == "echo"


def test_each_choice_has_its_own_verdict(ruled: Proxied, caller: Caller) -> None:
    """In the order of the choices."""
    told = caller.told(ruled.url, CHAT, **chat("unchanged", n=3))
    said = [choice.message.content for choice in told.value.choices]
    assert said == [corrected(text) for text in (texts.PLAIN, texts.OTHER, texts.EMOJI)]
    assert told.headers["x-aligner-changed"] == "1,1,1"
    told = caller.told(ruled.url, TEXT, model="emoji", prompt=["One?", "Two?"])
    assert [choice.text for choice in told.value.choices] == [corrected(texts.EMOJI)] * 2


@pytest.mark.parametrize("streamed", [False, True])
def test_operators_may_have_truncated_answers_and_json_corrected(
    tmp_path: Path, caller: Caller, streamed: bool
) -> None:
    """A truncated answer stays truncated, and JSON stays JSON: where it would not, the original is kept."""
    broken = {**RULES, '"twin": null': '"twin": Rome'}
    with served(tmp_path, broken, truncated="correct", json="correct") as running:
        running.box[0] = by_model({**SCRIPTS, **SAYING_MORE, "town": says('{"city": "Paris"}')})
        ruled = running.proxy

        def said(model: str, **fields: Any) -> tuple[str, str]:
            if streamed:
                choices = of_choices(plain(caller.stream(ruled.url, model=model, **fields).chunks))[0]
                return text_of(choices), choices[-1]["finish_reason"]
            choice = caller.told(ruled.url, CHAT, **chat(model, **fields)).value.choices[0]
            return choice.message.content, choice.finish_reason

        assert said("cut-off") == (corrected(texts.PLAIN), "length")
        as_json = {"response_format": {"type": "json_object"}}
        assert said("town", **as_json) == ('{"city": "Lutetia"}', "stop")
        if not streamed:
            assert said("json", **as_json) == (texts.JSON, "stop")
            told = caller.told(ruled.url, CHAT, **chat("json", **as_json))
            assert (told.headers["x-aligner-skipped"], told.headers["x-aligner-changed"]) == ("json", "0")
        else:
            found = caller.stream(ruled.url, model="json", **as_json)
            # What was sent cannot be taken back: the original as a whole, or an error.
            assert found.error is not None or json.loads(found.text) == json.loads(texts.JSON)


@pytest.mark.parametrize("stop", ["Lutetia", ["nowhere", "Lutetia"]])
def test_a_string_that_ends_answers_ends_corrections(ruled: Proxied, caller: Caller, stop: str | list[str]) -> None:
    """Also where only the correction has it; the finish reason stays."""
    expected = texts.PLAIN.partition("Paris")[0]
    choice = caller.told(ruled.url, CHAT, **chat(stop=stop)).value.choices[0]
    assert (choice.message.content, choice.finish_reason) == (expected, "stop")
    choices = of_choices(plain(caller.stream(ruled.url, model="unchanged", stop=stop).chunks))[0]
    assert (text_of(choices), choices[-1]["finish_reason"]) == (expected, "stop")


def test_figures_and_notes_of_a_text_go_with_it(ruled: Proxied, caller: Caller) -> None:
    """Log-probabilities are null and annotations gone where the text is another, and stay where it is not."""
    for model, changed in (("unchanged", True), ("combining", True), ("paragraphs", True), ("long", False)):
        fields = chat(model, logprobs=True)
        direct, through = (caller.told(url, CHAT, **fields).value.choices[0] for url in (ruled.upstream_url, ruled.url))
        assert (through.message.content != direct.message.content) == changed
        assert through.logprobs == (None if changed else direct.logprobs)
    direct, through = (
        caller.told(url, CHAT, **chat("cited")).value.choices[0] for url in (ruled.upstream_url, ruled.url)
    )
    assert direct.message.annotations
    assert through.message.annotations == []


@pytest.mark.parametrize("model", ["reasoning-content", "reasoning", "think"])
def test_reasoning_is_no_answer(ruled: Proxied, caller: Caller, model: str) -> None:
    """It stays as it is, also where it holds what is corrected in the answer."""
    direct, through = (
        caller.told(url, CHAT, **chat(model)).value.choices[0].message.to_dict()
        for url in (ruled.upstream_url, ruled.url)
    )
    thought, sign, answer = direct["content"].rpartition("</think>")
    assert through["content"].startswith(thought + sign)
    if not thought:
        assert through == {**direct, "content": corrected(answer)}
    assert caller.stream(ruled.url, model=model).text.startswith(thought + sign)
    assert "Paris" in texts.REASONING
