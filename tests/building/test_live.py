"""Laws of live calls, against a real server that counts what it bills, limits, refuses and breaks answers."""

import asyncio
import re
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from live_worker import NAME, asked, requests, started
from paid_server import answer_to, paid_server

from aligner.building.batches.register import BatchFile, Register
from aligner.building.endpoint import Endpoint
from aligner.building.ledger import Ledger
from aligner.building.live import run_live
from aligner.building.nouns import Failure, Reply, Request
from aligner.building.spending import BudgetError, Prices, Purse
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.errors import ModelError
from aligner.models import load_model
from aligner.models.server import BrokenError, RefusedError
from aligner.records import ChatModel, Completion, Message, SamplingParams, Usage

SECRET = "sk-canary-4711"


def added(folder: Path, texts: list[str]) -> list[Request]:
    """Requests for these texts, in the store of a folder."""
    made = requests(texts)
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        Ledger(store, worker).add(made)
    return made


def no_tick(count: int = 1, note: str = "") -> None:
    """Nobody looks on."""


def outcomes(folder: Path, made: list[Request]) -> list[Reply | Failure | None]:
    """What became of each."""
    with Store(folder / "build.sqlite") as store, Worker(folder) as worker:
        ledger = Ledger(store, worker)
        return [ledger.reply(request.key) or ledger.failure(request.key) for request in made]


def test_every_request_gets_the_reply_of_the_server_once(tmp_path: Path) -> None:
    """Text, tokens and cost are the server's, a call is billed once under its key, and a second run asks nothing."""
    texts = [f"Wie spät? {i}" for i in range(40)]
    made = added(tmp_path, texts)
    with paid_server(idempotent=False) as server:
        assert asked(tmp_path, server.base_url, prices=[1.0, 10.0]) == 40
        assert asked(tmp_path, server.base_url) == 0
        stats = server.stats()
    assert stats.paid == {request.key: 1 for request in made}
    assert stats.busiest <= 8
    for reply, text in zip(outcomes(tmp_path, made), texts, strict=True):
        read = -(-len(text) // 4)
        assert isinstance(reply, Reply)
        assert reply == Reply(answer_to(text), "stop", read, 12, reply.cost, "live")
        assert reply.cost == pytest.approx((read + 12 * 10.0) / 1e6)


@pytest.mark.slow
def test_a_server_that_breaks_answers_loses_nothing(tmp_path: Path) -> None:
    """Each call gets its answer in the end, and with an idempotency key none is billed twice."""
    made = added(tmp_path, [f"Who? {i}" for i in range(40)])
    with paid_server(faults=0.25) as server:
        asked(tmp_path, server.base_url, attempts=12)
        stats = server.stats()
    assert stats.faults > 5
    assert stats.paid == {request.key: 1 for request in made}
    assert all(isinstance(reply, Reply) for reply in outcomes(tmp_path, made))


def test_what_is_refused_for_good_is_asked_once_and_kept_with_its_class(tmp_path: Path) -> None:
    """Each is a failure of its class, the last of them with its cost, and the others go on."""
    made = added(tmp_path, ["TOO LONG", "BAD", "TOOLS", "fine"])
    with paid_server() as server:
        assert asked(tmp_path, server.base_url, prices=[1.0, 1.0]) == 4
        assert len(server.stats().arrivals) == 4
    *failures, fine = outcomes(tmp_path, made)
    assert [failure and failure[0] for failure in failures] == ["context", "refused", "unusable"]
    assert [failure.cost for failure in failures if isinstance(failure, Failure)] == [0.0, 0.0, 0.002]
    assert isinstance(fine, Reply)
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        assert Ledger(store, worker).spent() == pytest.approx(0.002 + fine.cost)


def test_a_key_that_is_not_let_in_ends_the_run_and_frees_all(tmp_path: Path) -> None:
    """One line says so without the key, nothing is kept as failed, and with the right key the same goes on."""
    added(tmp_path, [f"Who? {i}" for i in range(30)])
    with paid_server(key="right") as server:
        with pytest.raises(ModelError, match=r"401.*OPENAI_API_KEY") as caught:
            asked(tmp_path, server.base_url, key=SECRET)
        assert len(server.stats().arrivals) <= 8
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
        for path in tmp_path.rglob("*"):
            assert path.is_dir() or SECRET.encode() not in path.read_bytes()
        with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
            state = Ledger(store, worker).state("answers")
        assert (state.todo, state.leased, state.done, state.failed) == (30, 0, 0, {})
        assert asked(tmp_path, server.base_url, key="right") == 30


def test_retry_after_is_waited_for_by_everybody(tmp_path: Path) -> None:
    """Where the server tells no limit beforehand, nobody asks while it said to wait, and nobody gives up for that."""
    made = added(tmp_path, [f"Who? {i}" for i in range(30)])
    with paid_server(requests=10, minute=1.0) as server:
        asked(tmp_path, server.base_url, attempts=2)
        stats = server.stats()
    assert stats.crowded
    assert len(stats.arrivals) < 30 + 8 * 3
    assert all(isinstance(reply, Reply) for reply in outcomes(tmp_path, made))


@pytest.mark.parametrize("before", [True, False])
def test_a_model_that_refuses_all_ends_the_run_and_one_that_refuses_some_does_not(
    tmp_path: Path, *, before: bool
) -> None:
    """Who never answered and refuses eight calls is not asked for the rest; of others each refusal is kept."""
    if before:
        added(tmp_path, ["fine"])
    with paid_server() as server:
        asked(tmp_path, server.base_url)
        made = added(tmp_path, [f"BAD {i}" for i in range(60)])
        if before:
            assert asked(tmp_path, server.base_url) == 60
            assert {outcome and outcome[0] for outcome in outcomes(tmp_path, made)} == {"refused"}
        else:
            with pytest.raises(ModelError, match=r"status 400.*it has answered no call"):
                asked(tmp_path, server.base_url)
            assert outcomes(tmp_path, made) == [None] * 60
            assert len(server.stats().arrivals) < 20


def test_a_server_that_is_down_ends_the_run(tmp_path: Path) -> None:
    """It is not asked for every row that is left: one line says what is wrong, and what was not tried is free."""
    added(tmp_path, [f"Who? {i}" for i in range(100)])
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ModelError, match=r"is the server running\?.*in a row"):
            asked(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}/v1", attempts=1)
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        state = ledger.state("answers")
        assert (state.leased, state.done) == (0, 0)
        assert state.todo >= 80
        assert ledger.reopen(["transient"]) == 100 - state.todo


def test_a_late_answer_is_asked_for_again_under_the_same_key(tmp_path: Path) -> None:
    """A server that is slower than the time-out bills once, and its answer is taken when it is asked again."""
    made = added(tmp_path, ["Who?"])
    with paid_server(seconds=(0.6, 0.6)) as server:
        asked(tmp_path, server.base_url, total=0.5)
        stats = server.stats()
    assert stats.paid == {made[0].key: 1}
    assert len(stats.arrivals) > 1
    assert isinstance(outcomes(tmp_path, made)[0], Reply)


@pytest.mark.parametrize("tells_usage", [True, False])
def test_max_cost_is_passed_by_no_more_than_the_calls_in_flight(tmp_path: Path, *, tells_usage: bool) -> None:
    """One line says what was spent and is left, a greater limit goes on, and to tell no usage is no way around it."""
    added(tmp_path, [f"Who is number {i:04}?" for i in range(100)])
    cost = 1.0 if tells_usage else 1.4  # an answer has 33 characters, and as many tokens as the server says, or more
    prices, tokens = [0.0, 1e6 / 12], 12
    with paid_server(seconds=(0.0, 0.02), tells_usage=tells_usage, written=tokens) as server:
        with pytest.raises(BudgetError, match=r"spent of --max-cost 20, \d+ calls are left") as caught:
            asked(tmp_path, server.base_url, prices=prices, max_cost=20.0)
        paid = len(server.stats().paid)
        assert 20 / cost <= paid < 20 / (10 / 12) + 8
        assert f"{100 - paid} calls are left" in str(caught.value)
        assert caught.value.exit_code == 1
        asked(tmp_path, server.base_url, prices=prices, max_cost=200.0)
        assert len(server.stats().paid) == 100


def test_what_costs_nothing_goes_on_when_the_purse_is_empty(tmp_path: Path) -> None:
    """A limit of 0 stops no model without a price."""
    added(tmp_path, ["Who?"])
    with paid_server() as server:
        assert asked(tmp_path, server.base_url, max_cost=0.0) == 1


def test_an_error_that_nobody_foresaw_frees_what_was_leased(tmp_path: Path) -> None:
    """A bug in a model is raised as it is, and all that is not done is to be done."""

    class Broken:
        async def complete(self, messages: object, sampling: object = None, *, prediction: object = None) -> Completion:
            raise ZeroDivisionError

        def stream(self, *_: object, **__: object) -> None:
            raise NotImplementedError

    added(tmp_path, [f"Who? {i}" for i in range(20)])
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        endpoint = Endpoint(name=NAME, model=Broken())  # pyright: ignore[reportArgumentType]
        with pytest.raises(ZeroDivisionError):
            asyncio.run(run_live(ledger, "answers", [endpoint], Purse(ledger), no_tick))
        state = ledger.state("answers")
    assert (state.todo, state.leased) == (20, 0)


def test_what_is_not_recorded_is_missing(tmp_path: Path) -> None:
    """A recording without an answer to a question is a failure of its own class."""
    (tmp_path / "recorded.jsonl").write_text('{"question": "Who?", "answer": "I."}\n')
    made = added(tmp_path, ["Who?", "What?"])
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        endpoint = Endpoint(name=NAME, model=load_model(f"replay:{tmp_path / 'recorded.jsonl'}"))
        asyncio.run(run_live(ledger, "answers", [endpoint], Purse(ledger), no_tick))
    reply, missing = outcomes(tmp_path, made)
    assert isinstance(reply, Reply)
    assert isinstance(missing, Failure)
    assert missing.fault == "missing"
    assert re.search("no answer is recorded", missing.said)


def modelled(complete: Callable[[str], Completion]) -> ChatModel:
    """A model that says at once what a function of the last message gives or raises."""

    class Model:
        async def complete(self, messages: Sequence[Message], sampling: object = None, **_: object) -> Completion:
            return complete(messages[-1].content)

        def stream(self, *_: object, **__: object) -> None:
            raise NotImplementedError

    return Model()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def test_what_is_in_a_batch_is_not_waited_for(tmp_path: Path) -> None:
    """A batch takes a day: a live run of the same model does what it can, and ends."""
    made = added(tmp_path, ["Who?", "What?"])
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker, Register(store.path) as register:
        ledger = Ledger(store, worker)
        register.add(BatchFile(1, "answers", NAME, "f", "t", 0.0), [made[0].key])
        endpoint = Endpoint(name=NAME, model=modelled(lambda _: Completion("Yes.", "stop", Usage(1, 1))))
        asyncio.run(asyncio.wait_for(run_live(ledger, "answers", [endpoint], Purse(ledger), no_tick), 20))
        state = ledger.state("answers")
    assert (state.leased, state.done) == (1, 1)


def test_each_attempt_that_costs_is_paid_at_once(tmp_path: Path) -> None:
    """A call that is tried again and again cannot pass the limit by more than one attempt."""
    attempts = 0

    def broken(_: str) -> Completion:
        nonlocal attempts
        attempts += 1
        raise BrokenError("cut off")

    made = requests(["Who?"], sampling=SamplingParams(max_tokens=2))
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        ledger.add(made)
        endpoint = Endpoint(name=NAME, model=modelled(broken), prices=Prices(0.0, 1e6), attempts=5)
        with pytest.raises(BudgetError):
            asyncio.run(run_live(ledger, "answers", [endpoint], Purse(ledger, 1.5), no_tick))
        assert (attempts, ledger.spent(), ledger.state("answers").todo) == (2, 2.0, 1)


def test_what_is_refused_for_its_content_does_not_end_the_run(tmp_path: Path) -> None:
    """However many of the first questions a filter refuses: each is kept as refused, and the others are asked."""

    def filtered(text: str) -> Completion:
        if text.startswith("Bad"):
            raise RefusedError("u: status 400: the prompt was blocked by our content filter", 400, "content_filter")
        return Completion("Yes.", "stop", Usage(1, 1))

    texts = sorted((f"Who? {i}" for i in range(40)), key=lambda text: requests([text])[0].order)
    made = added(tmp_path, texts)
    refused = {text: f"Bad {text}" for text in texts[:12]}
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        first = set(refused)
        model = modelled(lambda text: filtered(refused[text] if text in first else text))
        asyncio.run(run_live(ledger, "answers", [Endpoint(name=NAME, model=model)], Purse(ledger), no_tick))
    found = outcomes(tmp_path, made)
    assert [outcome and outcome[0] for outcome in found] == ["refused"] * 12 + ["Yes."] * 28


@pytest.mark.parametrize("times", [1, 2])
def test_interrupted_once_it_takes_the_replies_and_twice_it_breaks_off(tmp_path: Path, times: int) -> None:
    """Nothing new is asked; what was asked is stored, or counts as paid and is asked again by the next run."""
    added(tmp_path, [f"Who? {i}" for i in range(30)])
    with paid_server(seconds=(1.5, 1.5)) as server:
        with started(tmp_path, server.base_url, prices=[1.0, 1.0], at_a_time=4) as process:
            while len(server.stats().arrivals) < 4:
                time.sleep(0.01)
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.2)
            assert process.wait(30) != 0
        assert len(server.stats().arrivals) == 4
    with Store(tmp_path / "build.sqlite") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        state = ledger.state("answers")
        assert (state.todo, state.leased) == (26, 0)
        assert (state.done, state.failed) == ((4, {}) if times == 1 else (0, {"cut_off": 4}))
        assert ledger.spent() > 0
