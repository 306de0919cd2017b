"""Laws of the routes of the review: who finds what, and what becomes of what they say."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged_rows import ROW, row
from proxies import ask, proxied

from aligner.serving.database import place_of
from aligner.serving.journal import key_hash
from aligner.serving.logged import Lengths, Logged
from aligner.serving.review.reading import Reviewed
from aligner.serving.review.showing import PREVIEW, preview, whole
from aligner.serving.store import Store

LONG = "<script>word</script> \u202e" * 5_000
PEOPLE = {"view": "viewer", "ann": "reviewer", "bob": "reviewer", "cli": ""}


class Said(NamedTuple):
    """An answer."""

    status: int
    json: Any


class Asking:
    """Asks the routes below /v1/aligner/ with somebody's key."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, f"{url}/v1/aligner"

    async def get(self, path: str, key: str = "view", **query: str) -> Said:
        """What is there."""
        headers = {"authorization": f"Bearer {key}"}
        async with self._session.get(f"{self._url}/{path}", params=query, headers=headers) as response:
            return Said(response.status, await response.json())

    async def post(self, path: str, body: Mapping[str, Any], key: str = "ann") -> Said:
        """What is said to it."""
        got = await ask(self._session, f"{self._url}/{path}", orjson.dumps(body), authorization=f"Bearer {key}")
        return Said(got.status, orjson.loads(got.body))

    async def pages(self, **query: str) -> list[Any]:
        """The rows of all pages."""
        found, cursor = list[Any](), ""
        while cursor is not None:
            said = await self.get("corrections", **query, **({"cursor": cursor} if cursor else {}))
            assert said.status == 200
            found, cursor = found + said.json["rows"], said.json["next"]
        return found


@asynccontextmanager
async def reviewing(tmp_path: Path, rows: Sequence[Logged]) -> AsyncGenerator[Asking]:
    """A proxy whose log holds the rows, and whose keys are of people with roles."""
    log, keys = str(tmp_path / "log.db"), tmp_path / "keys.txt"
    with closing(Store(place_of(log))) as store:
        store.write(rows)
    lines = [f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()} {role}" for name, role in PEOPLE.items()]
    keys.write_text("\n".join(line.strip() for line in lines))
    async with (
        proxied(environ={"ALIGNER_API_KEY": "op"}, keys=keys, log=log, log_content="full") as proxy,
        aiohttp.ClientSession() as session,
    ):
        yield Asking(session, proxy.url)


def test_the_queue_is_found_and_judged_and_what_was_said_is_undone(tmp_path: Path) -> None:
    """From the first page to agreement, as a page of ours does it."""
    rows = [row(number, model=f"m{number % 2}", changed=number % 3 > 0) for number in range(30)]
    rows.append(
        row(
            30,
            answer=LONG,
            correction=LONG.replace("script", "b", 1),
            question="zanzibar",
            lengths=Lengths(8, len(LONG), 9),
            kept_reason="gate",
        )
    )
    ids = [one.id for one in rows]

    async def run() -> None:
        async with reviewing(tmp_path, rows) as asking:
            assert [one["id"] for one in await asking.pages(limit="7")] == ids[::-1]
            assert [one["id"] for one in await asking.pages(model="m1", changed="true", sort="oldest", limit="3")] == [
                one.id for one in rows[:30] if one.model == "m1" and one.changed
            ]
            (long,) = await asking.pages(search="Zanzibar")
            assert (len(long["answer"]), long["lengths"]["answer"]) == (PREVIEW, len(LONG))
            whole = (await asking.get(f"corrections/{ids[30]}")).json
            assert (whole["answer"], whole["state"], whole["edits"]) == (LONG, "open", [[1, 7, "b"]])
            facets = (await asking.get("facets")).json
            assert (facets["models"], facets["reasons"]) == (["m0", "m1", "small"], ["gate"])

            noted = await asking.post(
                "feedback", {"ids": [*ids[:5], ids[0], "none"], "verdict": "accept", "tags": ["honest"]}
            )
            assert (noted.status, noted.json["noted"], noted.json["missing"]) == (200, 5, ["none"])
            for number, verdict in ((0, "accept"), (1, "reject")):
                assert (await asking.post("feedback", {"id": ids[number], "verdict": verdict}, "bob")).status == 200
            states = {state: await asking.pages(state=state) for state in ("once", "settled", "disputed", "open")}
            assert [len(found) for found in states.values()] == [3, 1, 1, 26]
            (disputed,) = states["disputed"]
            assert [(said["reviewer"], said["verdict"]) for said in disputed["feedback"]] == [
                ("ann", "accept"),
                ("bob", "reject"),
            ]
            agreement = (await asking.get("agreement")).json
            assert (agreement["reviewed"], agreement["twice"]) == (5, 2)
            (pair,) = agreement["pairs"]
            assert (pair["a"], pair["both"], pair["agree"]) == ({"reviewer": "ann", "user": None}, 2, 0.5)
            assert (await asking.get("agreement", since="2999-01-01")).json["reviewed"] == 0

            batch = {"batch": noted.json["batch"]}
            assert (await asking.post("feedback/undo", batch, "bob")).status == 404
            assert (await asking.post("feedback/undo", batch)).json == {"status": "undone", "undone": 5}
            assert (await asking.post("feedback/undo", batch)).status == 404
            assert len(await asking.pages(state="open")) == 29

    asyncio.run(run())


def test_half_a_surrogate_pair_is_shown_as_a_sign(tmp_path: Path) -> None:
    """A log that was imported may hold one anywhere; JSON cannot, and edits still fit."""
    one = row(0, model="m\ud800", answer="a \udfff b", correction="a \udfff\ud800 c", usage={"\ud800": 1})

    async def run() -> None:
        async with reviewing(tmp_path, [one]) as asking:
            (listed,) = await asking.pages()
            for shown in (listed, (await asking.get(f"corrections/{one.id}")).json):
                assert (shown["model"], shown["answer"], shown["usage"]) == ("m?", "a ? b", {"?": 1})
                assert applied(shown["answer"], shown["edits"]) == shown["correction"] == "a ?? c"
            assert (await asking.get("facets")).json["models"] == ["m?"]

    asyncio.run(run())


def test_each_role_reaches_what_is_its_own(tmp_path: Path) -> None:
    """Clients their own rows, viewers all, and reviewers judge them."""
    own = key_hash([("authorization", "Bearer cli")])
    rows = [row(0), row(1, key_hash=own)]

    async def run() -> None:
        async with reviewing(tmp_path, rows) as asking:
            for path in ("corrections", "facets", "agreement"):
                found = [(await asking.get(path, key)).status for key in ("cli", "view", "ann", "op", "eve")]
                assert found == [403, 200, 200, 200, 401]
            seen = [(await asking.get(f"corrections/{one.id}", "cli")).status for one in rows]
            judged = [
                (await asking.post("feedback", {"id": one.id, "verdict": "accept"}, key)).status
                for one in rows
                for key in ("cli", "view", "ann")
            ]
            many = await asking.post("feedback", {"ids": [one.id for one in rows], "verdict": "accept"}, "cli")
            assert (seen, judged) == ([404, 200], [404, 404, 200, 200, 404, 200])
            assert (many.json["noted"], many.json["missing"]) == (1, [rows[0].id])

    asyncio.run(run())


WRONG_QUERIES: Sequence[Mapping[str, str]] = [
    {"changed": "yes"},
    {"edit_min": "nan"},
    {"edit_max": "2"},
    {"since": "tomorrow"},
    {"state": "closed"},
    {"sort": "best"},
    {"limit": "0"},
    {"limit": "201"},
    {"limit": "²"},
    {"cursor": "AAAA"},
    {"cursor": "é"},
    {"search": "x" * 501},
    {"colour": "red"},
]
WRONG_WORDS: Sequence[Mapping[str, Any]] = [
    {"verdict": "accept"},
    {"ids": [], "verdict": "accept"},
    {"ids": ["x"] * 1001, "verdict": "accept"},
    {"ids": "x", "verdict": "accept"},
    {"ids": [1], "verdict": "accept"},
    {"id": "x", "ids": ["x"], "verdict": "accept"},
    {"ids": ["x", "y"], "verdict": "edit", "text": "z"},
    {"id": "x", "verdict": "edit"},
    {"id": "x", "verdict": "accept", "tags": "honest"},
]


def test_what_cannot_be_asked_is_refused_in_one_line(tmp_path: Path) -> None:
    """With what is wrong, and never with an error of the server."""

    async def run() -> None:
        async with reviewing(tmp_path, [ROW]) as asking:
            for query in WRONG_QUERIES:
                said = await asking.get("corrections", **query)
                assert (said.status, "\n" in said.json["error"]["message"]) == (400, False), query
            for body in WRONG_WORDS:
                assert (await asking.post("feedback", body)).status == 400, body
            assert (await asking.post("feedback/undo", {"batch": 1})).status == 400
            assert [one["id"] for one in await asking.pages(search="", state="", since="1.5", until="2999-01-01")] == [
                ROW.id
            ]

    asyncio.run(run())


def test_without_a_log_there_is_nothing_to_review() -> None:
    """And whoever asks is told how to have one."""

    async def run() -> None:
        async with proxied() as proxy, aiohttp.ClientSession() as session:
            for path in ("corrections", "corrections/1", "facets", "agreement"):
                said = await Asking(session, proxy.url).get(path)
                assert (said.status, said.json["error"]["code"]) == (404, "no_log")

    asyncio.run(run())


def applied(text: str, edits: Sequence[Sequence[Any]]) -> str:
    """A text with edits made."""
    for start, end, new in reversed(edits):
        text = text[:start] + new + text[end:]
    return text


@given(st.text("ab \u0301<&", max_size=30), st.text("ab \u0301<&", max_size=30), st.sampled_from([0, 1_000, 30_000]))
def test_the_edits_of_a_row_make_its_correction(start: str, end: str, length: int) -> None:
    """Of the whole texts, however long, and of their previews."""
    middle = "so it goes " * (length // 11)
    one = replace(ROW, answer=f"{start}{middle}{end}", correction=f"{end}{middle}{start}")
    shown, beginning = whole(Reviewed(one, "open")), preview(Reviewed(one, "open"))
    for found in (shown, beginning):
        assert applied(found["answer"], found["edits"]) == found["correction"]
    assert (shown["answer"], shown["correction"]) == (one.answer, one.correction)
    assert beginning["answer"] == one.answer[:PREVIEW]
    if len(one.answer) <= PREVIEW:
        assert beginning["correction"] == one.correction


@pytest.mark.parametrize("content", ["off", "hash"])
def test_what_is_no_text_has_no_edits(content: Any) -> None:
    """A hash is not compared with a hash."""
    one = replace(ROW, content=content, answer="sha256:1", correction="sha256:2")
    assert whole(Reviewed(one, "open"))["edits"] == []
