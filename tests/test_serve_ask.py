"""Laws of the playground's question: both texts as they come, what became of them, and who is asked by name."""

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from faults import rows_of, until_figure
from proxies import ask, proxied
from tiny import tiny_aligner

from aligner.config import NamedAligner, NamedUpstream, ServeConfig, read_config
from aligner.errors import MisuseError
from aligner.records import Edit, apply_edits
from aligner.serve import check
from aligner.testing import Script, Upstream, always, serving
from aligner.testing.script import event, stream
from aligner.testing.texts import PLAIN, REASONING

MESSAGES = [{"role": "user", "content": "Which?"}]
CORRECTED = PLAIN.replace("Paris", "Lutetia")
STAGES = {"upstream", "queue", "read", "verify", "edit", "overhead"}


class Told:
    """The events of an answer."""

    def __init__(self, body: bytes) -> None:
        *events, rest = body.decode().split("\n\n")
        assert rest == ""
        self.events: list[tuple[str, Any]] = []
        for each in events:
            if each.startswith(": "):
                continue
            name, data = each.split("\n")
            self.events.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))

    @property
    def names(self) -> list[str]:
        """The names of the events, each once for all that follow one another."""
        names = [name for name, _ in self.events]
        return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]

    @property
    def last(self) -> Any:
        """What the last event says."""
        return self.events[-1][1]

    def text(self, name: str) -> str:
        """The pieces of a text, added up."""
        return "".join(fields["text"] for kind, fields in self.events if kind == name)


async def told(url: str, **fields: Any) -> Told:
    """What comes of one question."""
    async with aiohttp.ClientSession() as session:
        got = await ask(session, f"{url}/v1/aligner/ask", orjson.dumps({"messages": MESSAGES, **fields}))
    assert (got.status, got.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), got.body
    return Told(got.body)


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """An Aligner that corrects one word."""
    path = tmp_path / "rules.json"
    path.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    return f"rules:{path}"


def test_both_texts_come_and_then_what_became_of_them(rules: str, tmp_path: Path) -> None:
    """The pieces add up, the edits make one text of the other, and the log holds it under the id that was told."""
    database = str(tmp_path / "log.db")

    async def run() -> str:
        async with proxied(aligner=rules, log=database, log_content="full") as proxy:
            for mode in ("correct", "shadow"):
                found = await told(proxy.url, model="unchanged", mode=mode, conversation="c1", temperature=0.5)
                assert found.names == ["start", "original", "upstream", "correction", "done"]
                start, done = found.events[0][1], found.last
                names = {"upstream": "default", "aligner": "default", "model": "unchanged", "mode": mode}
                assert start == {"id": done["id"], **names}
                assert found.text("original") == done["answer"] == PLAIN
                assert found.text("correction") == done["correction"] == CORRECTED
                assert apply_edits(PLAIN, [Edit(*edit) for edit in done["edits"]]) == CORRECTED
                assert (done["changed"], done["skipped"], done["bypass"], done["thought"]) == (True, None, None, "")
                assert (done["logged"], done["doubt"]) == (True, None)
                assert done["seconds"].keys() == STAGES
                assert min(done["seconds"].values()) >= 0
            sent = proxy.upstream.calls[0].asked.payload
            assert sent == {"model": "unchanged", "messages": MESSAGES, "temperature": 0.5, "stream": True}
            said = orjson.dumps({"id": done["id"], "verdict": "accept"})
            async with aiohttp.ClientSession() as session, asyncio.timeout(20):
                while (await ask(session, f"{proxy.url}/v1/aligner/feedback", said)).status == 404:  # noqa: ASYNC110  # nothing tells of it
                    await asyncio.sleep(0.05)
        return done["id"]

    last = asyncio.run(run())
    rows = rows_of(database)
    assert [(row.mode, row.conversation, row.answer, row.correction) for row in rows] == [
        (mode, "c1", PLAIN, CORRECTED) for mode in ("correct", "shadow")
    ]
    assert (rows[1].id, [said.verdict for said in rows[1].feedback]) == (last, ["accept"])
    assert rows[1].seconds.keys() == {"upstream", "correct", "queue", "read", "verify", "edit"}


@pytest.mark.slow  # the engine of a language model takes seconds to start
def test_a_language_models_doubt_is_told_by_characters(tmp_path: Path) -> None:
    """In order, side by side, over the whole answer; the figures are probabilities, and the metrics count them."""
    folder = tiny_aligner(tmp_path, context=1024)

    async def run() -> None:
        async with proxied(aligner=str(folder), device="cpu", gate=0.0, allow=("gate",)) as proxy:
            for model in ("unchanged", "emoji", "combining", "directions"):
                done = (found := await told(proxy.url, model=model)).last
                assert found.events[-1][0] == "done"
                answer, spans = done["answer"], done["doubt"]
                assert [start for start, _, _ in spans] == [0, *(end for _, end, _ in spans[:-1])]
                assert spans[-1][1] == len(answer)
                assert all(0 <= doubt <= 1 for _, _, doubt in spans)
                assert 1 - max(doubt for *_, doubt in spans) <= done["confidence"] + 1e-3
                assert found.text("correction") == done["correction"] or done["kept_reason"]
                seconds = done["seconds"]
                assert min(seconds["read"], seconds["verify"]) > 0
            gated = await told(proxy.url, model="unchanged", mode="gate")
            assert (gated.text("correction"), gated.last["kept_reason"], gated.last["changed"]) == ("", "gate", False)
            await until_figure(proxy.url, "aligner_doubt_count", lambda count: count == 5)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("one-piece", {"correction": CORRECTED, "changed": True}),
        ("think", {"correction": CORRECTED, "thought": f"<think>\n{REASONING}\n</think>\n\n"}),
        ("length", {"skipped": "truncated", "changed": False}),
        ("tools", {"skipped": "tool_calls", "answer": ""}),
        ("refusal", {"skipped": "refusal"}),
        ("no-done", {"correction": CORRECTED}),
    ],
)
def test_any_answer_of_an_upstream_is_shown(rules: str, model: str, fields: dict[str, Any]) -> None:
    """Whole or piece by piece, with thoughts, or with nothing to correct."""

    async def run() -> Told:
        async with proxied(aligner=rules) as proxy:
            return await told(proxy.url, model=model, max_tokens=5 if model == "length" else None)

    found = asyncio.run(run())
    assert found.events[-1][0] == "done"
    assert {name: found.last[name] for name in fields} == fields
    assert found.text("original").endswith(found.last["answer"])
    if found.last["changed"]:
        assert found.text("correction") == CORRECTED
    else:
        assert (found.last["edits"], found.text("correction")) == ([], "")


@pytest.mark.parametrize("model", ["error-429", "error-500", "error-text", "cut", "silence", "error-frame", "html"])
def test_an_upstream_that_fails_is_told_as_the_last_event(model: str) -> None:
    """In words, with a code where there is one; nothing is corrected, and nothing hangs."""

    async def run() -> Told:
        async with proxied() as proxy:
            found = await told(proxy.url, model=model)
            await until_figure(proxy.url, "aligner_in_flight", lambda count: count == 0)
            return found

    found = asyncio.run(run())
    name, fields = found.events[-1]
    assert (name, fields.keys()) == ("error", {"message", "code"})
    assert fields["message"]
    assert not {"done", "correction"} & set(found.names)


def test_off_is_the_original_alone_and_an_aligner_that_fails_keeps_it(rules: str) -> None:
    """The Aligner is not asked; where it is too slow, the original stands for its correction, with the cause."""

    async def run() -> None:
        async with proxied(aligner=rules) as proxy:
            found = await told(proxy.url, model="unchanged", mode="off")
            assert found.names == ["start", "original", "upstream", "done"]
            assert (found.last["correction"], found.last["changed"], found.last["logged"]) == (PLAIN, False, False)
        async with proxied(aligner=rules, seconds=0.0) as proxy:
            found = await told(proxy.url, model="unchanged")
            assert (found.last["correction"], found.last["bypass"]) == (PLAIN, "timeout")
        async with proxied(aligner=rules, seconds=0.0, profile="safety") as proxy:
            found = await told(proxy.url, model="unchanged")
            assert (found.events[-1][0], found.last["code"]) == ("error", "corrector_unavailable")

    asyncio.run(run())


def test_whoever_leaves_ends_the_work() -> None:
    """The upstream sees it, and the request counts as cancelled."""
    chunk = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "a "}, "finish_reason": None}]})
    script = Script(headers=(("content-type", "text/event-stream"),), ending="stall").writing([chunk] * 3)

    async def run() -> None:
        async with proxied(Upstream(always(script)), patience=60.0) as proxy:
            async with aiohttp.ClientSession() as session:
                body = {"model": "m", "messages": MESSAGES}
                async with session.post(f"{proxy.url}/v1/aligner/ask", json=body) as response:
                    await response.content.readuntil(b"event: original")
            call = await proxy.upstream.call()
            async with asyncio.timeout(5):
                await call.over.wait()
            assert call.gone is not None
            name = 'aligner_requests_total{mode="correct",outcome="cancelled",route="chat"}'
            await until_figure(proxy.url, name, lambda count: count == 1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "Which?"}, "messages"),
        ({"mode": "gate"}, "mode"),
        ({"mode": ["off"]}, "mode"),
        ({"model": 7}, "model"),
        ({"conversation": {}}, "conversation"),
        ({"upstream": "other"}, "upstream"),
        ({"upstream": "http://127.0.0.1:1/v1"}, "upstream"),
        ({"aligner": {"name": "default"}}, "aligner"),
        ({"aligner": "rules:/etc/passwd"}, "aligner"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(fields: dict[str, Any], param: str) -> None:
    """With the field that is wrong, in the shape of every other error."""

    async def run() -> None:
        async with proxied() as proxy, aiohttp.ClientSession() as session:
            body = {"messages": MESSAGES, **fields}
            body = {name: value for name, value in body.items() if value is not None}
            got = await ask(session, f"{proxy.url}/v1/aligner/ask", orjson.dumps(body))
            assert (got.status, orjson.loads(got.body)["error"]["param"]) == (400, param)
            assert proxy.upstream.count == 0

    asyncio.run(run())


def test_a_hundred_thousand_hostile_characters_arrive_as_they_are(tmp_path: Path) -> None:
    """Script tags, control and template characters, marks of direction, line ends and words of the protocol."""
    signs = [
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "\u202e",
        "\u0000",
        "\r\n",
        "\n\n",
        "event: done\n",
        "👨‍👩‍👧",
        "Paris ",
    ]
    text = "".join(random.Random(0).choices(signs, k=20_000))[:100_000]
    assert len(text) == 100_000
    pieces = [text[place : place + 1000] for place in range(0, len(text), 1000)]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces
    ]
    choices[-1]["finish_reason"] = "stop"
    script = stream([{"id": "c", "choices": [choice]} for choice in choices])
    (tmp_path / "all.json").write_bytes(orjson.dumps([{"pattern": "a", "replace": "á"}]))

    async def run() -> Told:
        async with proxied(Upstream(always(script)), aligner=f"rules:{tmp_path / 'all.json'}") as proxy:
            return await told(proxy.url, model="m")

    found = asyncio.run(run())
    assert found.text("original") == found.last["answer"] == text
    assert found.last["correction"] == text.replace("a", "á")
    assert apply_edits(text, [Edit(*edit) for edit in found.last["edits"]]) == found.last["correction"]


def test_upstreams_and_aligners_are_chosen_by_name(rules: str) -> None:
    """By a question always, by a request where it is allowed; each upstream gets its own key, and no other's."""
    environ = {"ALIGNER_API_KEY": "ours", "ALIGNER_UPSTREAM_KEY": "first", "OTHER": "second"}
    ours = {"authorization": "Bearer ours"}

    async def run() -> None:
        other, keyless = Upstream(), Upstream()
        async with serving(other) as url, serving(keyless) as third, aiohttp.ClientSession() as session:
            named = (
                NamedUpstream(name="other", url=f"{url}/v1", key_env="OTHER"),
                NamedUpstream(name="keyless", url=f"{third}/v1/"),
            )
            fields: dict[str, Any] = {"upstreams": named, "aligners": (NamedAligner(name="rules", aligner=rules),)}
            for by_name in (True, False):
                async with proxied(environ=environ, by_name=by_name, **fields) as proxy:
                    settings = await ask(session, f"{proxy.url}/v1/aligner/settings", b"", method="GET", **ours)
                    listed = orjson.loads(settings.body)
                    assert listed["upstreams"] == ["default", "other", "keyless"]
                    assert [aligner["name"] for aligner in listed["aligners"]] == ["default", "rules"]
                    for upstream in ("default", "other", "keyless"):
                        body = {"messages": MESSAGES, "model": "unchanged", "upstream": upstream, "aligner": "rules"}
                        got = await ask(session, f"{proxy.url}/v1/aligner/ask", orjson.dumps(body), **ours)
                        found = Told(got.body)
                        assert (found.events[0][1]["upstream"], found.last["correction"]) == (upstream, CORRECTED)
                        chosen = {"upstream": upstream, "aligner": "rules"}
                        body = {"messages": MESSAGES, "model": "unchanged", "aligner": chosen}
                        got = await ask(session, f"{proxy.url}/v1/chat/completions", orjson.dumps(body), **ours)
                        assert got.status == (200 if by_name else 400)
                        if by_name:
                            assert orjson.loads(got.body)["choices"][0]["message"]["content"] == CORRECTED
                    for chosen in ({"upstream": "http://127.0.0.1:1/v1"}, {"aligner": "echo:"}, {"upstream": 7}):
                        body = {"messages": MESSAGES, "model": "unchanged", "aligner": chosen}
                        got = await ask(session, f"{proxy.url}/v1/chat/completions", orjson.dumps(body), **ours)
                        assert got.status == 400
                    calls = [*proxy.upstream.calls]
                    assert {call.asked.headers.get("authorization") for call in calls} == {"Bearer first"}
        assert {call.asked.headers.get("authorization") for call in other.calls} == {"Bearer second"}
        assert {call.asked.headers.get("authorization") for call in keyless.calls} == {None}

    asyncio.run(run())


def test_a_question_without_a_model_takes_the_upstreams_first(rules: str) -> None:
    """Which is the first that the picker shows."""

    async def run() -> None:
        async with proxied(aligner=rules) as proxy, aiohttp.ClientSession() as session:
            listed = await ask(session, f"{proxy.url}/v1/aligner/models?upstream=default", b"", method="GET")
            first = orjson.loads(listed.body)["models"][0]
            assert (await told(proxy.url)).events[0][1]["model"] == first
            for query, status in (("upstream=http://x", 400), ("", 200)):
                got = await ask(session, f"{proxy.url}/v1/aligner/models?{query}", b"", method="GET")
                assert got.status == status

    asyncio.run(run())


TABLES = """
upstream = "http://127.0.0.1:9/v1"
[[upstreams]]
name = "{name}"
url = "{url}"
key_env = "{key}"
[[aligners]]
name = "{aligner}"
aligner = "echo:"
"""


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, ""),
        ({"name": "http://x"}, r'\[\[upstreams\]\]: the name "http://x" is not made of'),
        ({"name": "default"}, r'\[\[upstreams\]\]: the name "default" is taken'),
        ({"aligner": ""}, r'\[\[aligners\]\]: the name "" is not made of'),
        ({"aligner": "default"}, r'\[\[aligners\]\]: the name "default" is taken'),
        ({"url": "ftp://x/v1"}, "the upstream other is not like https://host/v1"),
        ({"url": "http://["}, "the upstream other is not like https://host/v1"),
        ({"url": "https://user:pass@x/v1"}, "the upstream other's URL holds a user"),
        ({"key": "NOT_SET"}, "the upstream other takes its key from NOT_SET, which is not set"),
    ],
)
def test_names_that_cannot_work_are_refused_before_anything_starts(
    tmp_path: Path, fields: dict[str, str], problem: str
) -> None:
    """In one line that says which; and two of the same name are one too many."""
    given = {"name": "other", "url": "http://127.0.0.1:10/v1", "key": "", "aligner": "rules", **fields}
    path = tmp_path / "serve.toml"
    path.write_text(TABLES.format(**given))
    config = read_config(ServeConfig, path)
    if not problem:
        check(config, {})
        assert config.upstreams == (NamedUpstream(name="other", url="http://127.0.0.1:10/v1"),)
        config = ServeConfig(upstream=config.upstream, aligners=config.aligners * 2)
        problem = r'\[\[aligners\]\]: the name "rules" is taken'
    with pytest.raises(MisuseError, match=problem):
        check(config, {})
