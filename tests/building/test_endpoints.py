"""Laws of how calls are made: who is asked in which way, and what waits for what."""

from dataclasses import replace
from pathlib import Path

import pytest
from batch_builds import requests
from batch_server import KEY, Behaviour, serving
from built import Opened

from aligner.building.endpoints import Calls, Corrector, Waiting, make
from aligner.building.nouns import Reply
from aligner.building.spending import BudgetError, Purse
from aligner.config import BuildUpstream


def calls_of(opened: Opened, max_cost: float | None = None) -> Calls:
    """All that calls take; nobody is told anything."""

    def aligner(name: str) -> Corrector:
        raise AssertionError(name)

    def say(_: str) -> None:
        pass

    return Calls(opened.ledger, Purse(opened.ledger, max_cost), opened.store.path.parent / "batches", aligner, say)


def yes(folder: Path) -> str:
    """A model that says yes."""
    path = folder / "yes.json"
    path.write_text('[{"pattern": "(?s)^.*$", "replace": "Yes."}]')
    return f"rules:{path}"


@pytest.mark.parametrize("calling", ["batch", "files"])
def test_money_that_is_too_little_for_one_request_ends_the_run(tmp_path: Path, calling: str) -> None:
    """Nobody is told to run the same again where that would change nothing."""
    model = BuildUpstream(
        name="up",
        model="openai:gpt-x@http://127.0.0.1:9/v1",
        calling=calling,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        price_in=100.0,
        price_out=1e6,
    )
    with Opened(tmp_path) as opened:
        paid, *asked = requests(["paid", "one", "two"])
        opened.ledger.add([paid, *asked])
        opened.ledger.put(paid.key, Reply("x", cost=9.9))
        with pytest.raises(BudgetError, match="2 calls are left"):
            make(calls_of(opened, 10.0), "answers", [model])
        free = replace(model, price_in=0.0, price_out=0.0)
        if calling == "files":
            assert make(calls_of(opened, 9.0), "answers", [free])[0].calls == 2


def test_live_calls_do_not_spend_what_a_batch_will_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way counts as paid: the limit holds for both together."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Behaviour(seconds=60.0)) as server, Opened(tmp_path) as opened:
        batched = BuildUpstream(
            name="up", model=f"openai:gpt-x@{server.url}", calling="batch", price_in=0.0, price_out=1e6, batch_price=1.0
        )
        live = BuildUpstream(name="live", model=yes(tmp_path), price_in=0.0, price_out=1.0)
        opened.ledger.add([*requests(["one"]), *requests(["two"], model="live")])
        waits = Waiting(1, "batches of up: run the same command again")
        with pytest.raises(BudgetError, match="64 for open batches of --max-cost 64, 1 calls are left"):
            make(calls_of(opened, 64.0), "answers", [batched, live])
        assert make(calls_of(opened, 65.0), "answers", [batched, live]) == [waits]
        assert opened.ledger.state("answers", ["live"]).done == 1


def test_up_to_a_place_only_those_calls_are_made(tmp_path: Path) -> None:
    """A pilot, and money for a part, ask what is theirs, whatever else waits in the store."""
    asked = sorted(requests(f"{i}" for i in range(30)), key=lambda request: request.order)
    with Opened(tmp_path) as opened:
        opened.ledger.add(asked)
        calls = calls_of(opened)
        first = calls._replace(ledger=opened.ledger.up_to(asked[4].order))
        made = make(first, "answers", [BuildUpstream(name="up", model=yes(tmp_path))])
        assert (made, opened.ledger.state("answers").done) == ([], 5)
        assert all(opened.ledger.reply(request.key) for request in asked[:5])
        written = make(first, "answers", [BuildUpstream(name="up", model="openai:x", calling="files")])
        assert written == []
