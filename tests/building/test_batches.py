"""The laws of batches: each request is sent and paid once, and what comes back joins its request."""

from pathlib import Path
from typing import Any

import pytest
from batch_builds import PRICES, endpoint_of, faults, ledger_in, outcomes, paid_once, requests, sent
from batch_server import KEY, Behaviour, serving

from aligner.building.batches import BatchEndpoint, FileLimits, run, waiting
from aligner.building.batches.locking import alone
from aligner.building.nouns import Reply
from aligner.building.spending import Prices, Purse
from aligner.errors import MisuseError, ModelError

CREATE, UPLOAD, CONTENT = "POST /v1/batches", "POST /v1/files", "GET /v1/files/{id}/content"


def by_content(**fates: str) -> Behaviour:
    """A fate for each request whose last message begins with that word."""

    def fate(line: dict[str, Any]) -> Any:
        return fates.get(line["body"]["messages"][-1]["content"].split()[0], "reply")

    return Behaviour(fate=fate)


def test_the_same_command_again_collects_what_was_sent(tmp_path: Path) -> None:
    """Sent once, waited for, collected once; a further run does nothing; a batch costs its share of the price."""
    asked = requests(f"question {i}" for i in range(12))
    with serving(Behaviour(seconds=0.15)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        endpoint = endpoint_of(server.url, limits=FileLimits(requests=5))
        first, _ = sent(ledger, endpoint, tmp_path)
        assert (first.todo, first.waiting, first.done, first.files) == (0, 12, 0, 3)
        assert server.calls[CREATE] == 3
        last, said = sent(ledger, endpoint_of(server.url, wait=20.0), tmp_path)
        assert (last.todo, last.waiting, last.done, last.failed, last.files) == (0, 0, 12, 0, 0)
        assert sum("is completed" in line for line in said) == 3
        calls = server.calls.copy()
        again, _ = sent(ledger, endpoint, tmp_path)
        assert again == (0, 0, 0, 0, 0, False)
        assert server.calls == calls
        assert paid_once(server, asked)
        for content, reply in outcomes(ledger, asked).items():
            expected = Reply(f"Reply to {content}", "stop", 4, 4, 0.5 * (4 * 2 + 4 * 8) / 1e6, "batch")
            assert reply == expected
        assert ledger.spent() == pytest.approx(12 * PRICES.cost(4, 4))


def test_results_out_of_order_join_right(tmp_path: Path) -> None:
    """Whatever the order of the lines, each reply is that of its request."""
    asked = requests(f"question {i} {'x' * (i % 7)}" for i in range(60))
    with serving(Behaviour(shuffle=7)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        progress, _ = sent(ledger, endpoint_of(server.url, limits=FileLimits(requests=25)), tmp_path)
        assert progress.done == 60
        for content, reply in outcomes(ledger, asked).items():
            assert isinstance(reply, Reply)
            assert reply.text == f"Reply to {content}"


def test_requests_fail_alone_and_with_their_class(tmp_path: Path) -> None:
    """Of a batch that fails in part every line has its outcome; what was written and of no use has its cost."""
    kinds = {"bad": "refuse", "long": "too_long", "busy": "overload", "slow": "timeout", "gone": "lose", "odd": "tools"}
    asked = requests([f"{word} {i}" for word in ("good", *kinds) for i in range(3)])
    with serving(by_content(**kinds)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        progress, _ = sent(ledger, endpoint_of(server.url), tmp_path)
        assert (progress.done, progress.failed, progress.waiting) == (3, 18, 0)
        expected = {
            "bad": "refused", "long": "context", "busy": "transient", "slow": "transient", "gone": "transient",
            "odd": "unusable",
        }  # fmt: skip
        found = faults(ledger, asked)
        assert {content: expected.get(content.split()[0]) for content in found} == found
        assert len(found) == 18
        assert ledger.spent() == pytest.approx(6 * PRICES.cost(4, 4))


def test_an_expired_batch_keeps_what_is_done_and_sends_the_rest_again(tmp_path: Path) -> None:
    """The output of an expired batch is taken; the others fail as expired and, reopened, are sent and paid once."""
    asked = requests([*(f"done {i}" for i in range(4)), *(f"late {i}" for i in range(3))])
    with serving(by_content(late="expire")) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        first, _ = sent(ledger, endpoint_of(server.url), tmp_path)
        assert (first.done, first.failed) == (4, 3)
        assert set(faults(ledger, asked).values()) == {"expired"}
        server.behaviour.fate = lambda _: "reply"
        ledger.reopen({"expired"})
        second, _ = sent(ledger, endpoint_of(server.url), tmp_path)
        assert (second.done, second.failed) == (3, 0)
        assert not faults(ledger, asked)
        assert paid_once(server, asked)


def test_a_batch_cancelled_by_hand_counts_as_expired(tmp_path: Path) -> None:
    """What ran before the cancellation is taken, the rest can be asked again."""
    asked = requests(["done 1", "late 1"])
    behaviour = by_content(late="expire")
    behaviour.seconds = 0.1
    with serving(behaviour) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        sent(ledger, endpoint_of(server.url), tmp_path)
        (batch,) = server.batches.values()
        batch.update(status="cancelling")
        progress, _ = sent(ledger, endpoint_of(server.url, wait=20.0), tmp_path)
        assert (progress.done, progress.failed) == (1, 1)
        assert faults(ledger, asked) == {"late 1": "expired"}


def test_files_keep_the_limits(tmp_path: Path) -> None:
    """No file has more requests or bytes than allowed; a request that fits into none fails as too long."""
    asked = requests([*(f"question {i} " + "é" * (37 * i % 400) for i in range(40)), "x" * 3000])
    limits = FileLimits(requests=6, size=2500)
    with serving(Behaviour(requests=6, size=2500)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        progress, _ = sent(ledger, endpoint_of(server.url, limits=limits), tmp_path)
        assert (progress.done, progress.waiting) == (40, 0)
        assert list(faults(ledger, asked).values()) == ["context"]
        inputs = [file.content for file in server.files.values() if file.about["purpose"] == "batch"]
        assert all(len(content) <= 2500 and content.count(b"\n") <= 6 for content in inputs)
        assert paid_once(server, asked[:-1])


@pytest.mark.parametrize("lost", [["lost"], [500, "lost"], [429, 503, "lost"], [429]], ids=str)
def test_a_batch_whose_making_is_not_answered_is_not_made_twice(tmp_path: Path, lost: list[Any]) -> None:
    """Where the server took a batch and did not say so, its list does: it is found by its token."""
    asked = requests(f"question {i}" for i in range(6))
    troubles = {CREATE: lost, UPLOAD: [500], CONTENT: [503], "GET /v1/batches/{id}": [500]}
    with serving(Behaviour(troubles=troubles)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        progress, _ = sent(ledger, endpoint_of(server.url, limits=FileLimits(requests=3)), tmp_path)
        assert (progress.done, len(server.batches)) == (6, 2)
        assert paid_once(server, asked)


def test_lines_that_a_server_refuses_fail_alone(tmp_path: Path) -> None:
    """Where a file is refused for some of its lines, those fail, and the others are sent again."""
    asked = requests([*(f"question {i}" for i in range(5)), "a bad line", "another bad line"])
    with serving() as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        endpoint = endpoint_of(server.url, wait=20.0)
        progress, _ = sent(ledger, endpoint, tmp_path)
        assert (progress.done, progress.failed, progress.todo) == (5, 2, 0)
        assert faults(ledger, asked) == {"a bad line": "refused", "another bad line": "refused"}
        assert paid_once(server, asked[:5])


def test_a_file_that_is_refused_as_a_whole_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """The server's reason is said in one line; all its requests can be sent again."""
    asked = requests(f"question {i}" for i in range(5))
    with serving(Behaviour(requests=3)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        with pytest.raises(ModelError, match=r"refuses the batch file up-0001\.jsonl: too_many_tasks"):
            sent(ledger, endpoint_of(server.url), tmp_path)
        assert ledger.state("answers").todo == 5
        progress, _ = sent(ledger, endpoint_of(server.url, limits=FileLimits(requests=3)), tmp_path)
        assert progress.done == 5
        assert paid_once(server, asked)


def test_a_batch_for_which_there_is_no_room_is_sent_later(tmp_path: Path) -> None:
    """A server that takes one batch at a time gets them one after the other."""
    asked = requests(f"question {i}" for i in range(6))
    with serving(Behaviour(seconds=0.05, queue=1)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        progress, said = sent(ledger, endpoint_of(server.url, wait=30.0, limits=FileLimits(requests=2)), tmp_path)
        assert (progress.done, progress.waiting) == (6, 0)
        assert any("no room" in line for line in said)
        assert paid_once(server, asked)


def test_a_wrong_key_stops_the_run_and_is_not_repeated(tmp_path: Path) -> None:
    """One line with the cure, without the key; nothing is lost."""
    asked = requests(["question"])
    with serving() as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        endpoint = BatchEndpoint.of(
            "up", f"openai:gpt-x@{server.url}", PRICES, {"OPENAI_API_KEY": "sk-secret-and-wrong"}
        )
        with pytest.raises(ModelError) as caught:
            sent(ledger, endpoint, tmp_path)
        assert "set OPENAI_API_KEY" in str(caught.value)
        assert "sk-secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        endpoint = BatchEndpoint.of("up", f"openai:gpt-x@{server.url}", PRICES, {"OPENAI_API_KEY": KEY})
        assert sent(ledger, endpoint, tmp_path)[0].done == 1


def test_only_what_may_be_spent_is_sent(tmp_path: Path) -> None:
    """Requests are sent as far as their estimate fits into what is left, open batches counted; the rest stays todo."""
    asked = requests(f"question {i}" for i in range(40))
    worst = PRICES.cost(5, 64)
    with serving(Behaviour(seconds=0.1)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        endpoint = endpoint_of(server.url, limits=FileLimits(requests=4))
        for _ in range(2):
            progress, _ = sent(ledger, endpoint, tmp_path, max_cost=2.5 * worst)
            assert (progress.waiting, progress.todo, progress.files) == (2, 38, 1)
        server.behaviour.seconds = 0.0
        done, _ = sent(ledger, endpoint, tmp_path, max_cost=2.5 * worst)
        while done.done:
            done, _ = sent(ledger, endpoint, tmp_path, max_cost=2.5 * worst)
        state = ledger.state("answers")
        assert (done.waiting, state.done + done.todo) == (0, 40)
        assert 1.5 * worst < ledger.spent() <= 2.5 * worst
        assert done.todo > 0


def test_files_that_may_no_longer_be_paid_are_not_sent(tmp_path: Path) -> None:
    """Where a run was cut off before it sent its files, and the next may spend less, only so much is sent."""
    asked = requests(f"question {i}" for i in range(9))
    with serving(Behaviour(troubles={UPLOAD: [400]})) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        endpoint = endpoint_of(server.url, limits=FileLimits(requests=3))
        with pytest.raises(ModelError):
            sent(ledger, endpoint, tmp_path)
        server.behaviour.seconds = 0.5
        progress, _ = sent(ledger, endpoint, tmp_path, max_cost=2.5 * PRICES.cost(5, 64))
        assert (progress.waiting, progress.todo, len(server.batches)) == (2, 7, 1)


def test_another_process_only_looks_on(tmp_path: Path) -> None:
    """While one process is at the batches, another sends nothing and sees how far they are."""
    with serving() as server, ledger_in(tmp_path) as ledger, alone(tmp_path / "batches"):
        ledger.add(requests(["question"]))
        progress, _ = sent(ledger, endpoint_of(server.url), tmp_path)
        assert progress == (1, 0, 0, 0, 0, False)
        assert not server.calls


def test_what_is_in_a_batch_is_leased_to_nobody_else(tmp_path: Path) -> None:
    """Requests of an open file cannot be leased; those that somebody leased are in no file."""
    asked = requests(f"question {i}" for i in range(5))
    with serving(Behaviour(seconds=0.2)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        (leased,) = ledger.lease("answers", ["up"], 1)
        sent(ledger, endpoint_of(server.url), tmp_path)
        assert waiting(ledger, "answers", "up") == 4
        assert not ledger.lease("answers", ["up"], 9)
        with ledger_in(tmp_path) as other:
            other.recover()
            assert not other.lease("answers", ["up"], 9)
        progress, _ = sent(ledger, endpoint_of(server.url, wait=20.0), tmp_path)
        assert progress.done == 4
        assert waiting(ledger, "answers", "up") == 0
        assert paid_once(server, [request for request in asked if request.key != leased.key])


def test_results_that_are_gone_can_be_asked_again(tmp_path: Path) -> None:
    """A result file that the server has deleted loses no request: they fail as transient."""
    asked = requests(["question"])
    troubles = {CONTENT: [404]}
    with serving(Behaviour(troubles=troubles)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        _, said = sent(ledger, endpoint_of(server.url), tmp_path)
        assert any("gone" in line for line in said)
        assert faults(ledger, asked) == {"question": "transient"}


def test_a_file_that_was_deleted_before_it_was_sent_is_written_again(tmp_path: Path) -> None:
    """What stood in it goes into a file of another number."""
    asked = requests(["question"])
    with serving(Behaviour(troubles={UPLOAD: [400]})) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        with pytest.raises(ModelError):
            sent(ledger, endpoint_of(server.url), tmp_path)
        (tmp_path / "batches" / "up-0001.jsonl").unlink()
        progress, _ = sent(ledger, endpoint_of(server.url), tmp_path)
        assert progress.done == 1
        assert (tmp_path / "batches" / "up-0002.jsonl").exists()


def test_endpoints_and_stages_share_a_folder(tmp_path: Path) -> None:
    """Each endpoint and stage sees its own requests alone."""
    mine, other = requests(["question"]), requests(["question"], model="other/model")
    later = requests(["correct"], stage="corrections")
    with serving() as server, ledger_in(tmp_path) as ledger:
        ledger.add([*mine, *other, *later])
        assert sent(ledger, endpoint_of(server.url), tmp_path)[0].done == 1
        assert sent(ledger, endpoint_of(server.url, name="other/model"), tmp_path)[0].done == 1
        assert not outcomes(ledger, later)["correct"]
        purse = Purse(ledger)
        assert run(ledger, "corrections", endpoint_of(server.url), tmp_path / "batches", purse, print).done == 1
        assert paid_once(server, [*mine, *other, *later])
        names = sorted(path.name for path in (tmp_path / "batches").glob("*.jsonl") if ".out." not in path.name)
        assert names == ["other-model-0002.jsonl", "up-0001.jsonl", "up-0003.jsonl"]


def test_only_servers_have_a_batch_api() -> None:
    """Any other model is refused, with the cure."""
    with pytest.raises(MisuseError, match='calling = "files"'):
        BatchEndpoint.of("up", "hf:somewhere", Prices())


def test_nothing_to_do_makes_no_call(tmp_path: Path) -> None:
    """A build without requests asks the server nothing."""
    with serving() as server, ledger_in(tmp_path) as ledger:
        assert sent(ledger, endpoint_of(server.url), tmp_path) == ((0, 0, 0, 0, 0, False), [])
        assert not server.calls


@pytest.mark.parametrize("status", [404, 410])
def test_a_batch_that_the_server_no_longer_knows_can_be_asked_again(tmp_path: Path, status: int) -> None:
    """Its requests fail as expired, with a word about it; the next run sends them in another."""
    asked = requests(["one", "two"])
    with serving(Behaviour(seconds=60.0)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        sent(ledger, endpoint_of(server.url), tmp_path)
        server.batches.clear()
        server.behaviour.troubles = {"GET /v1/batches/{id}": [status]}
        progress, said = sent(ledger, endpoint_of(server.url), tmp_path)
        assert (progress.failed, progress.waiting, progress.files) == (2, 0, 0)
        assert any("gone from the server" in line for line in said)
        assert set(faults(ledger, asked).values()) == {"expired"}


def test_an_address_without_a_batch_api_loses_no_batch(tmp_path: Path) -> None:
    """Where nothing can be listed, the batch is not taken for gone, and is collected once the address is right."""
    asked = requests(["one", "two"])
    with serving(Behaviour(seconds=60.0)) as server, ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        sent(ledger, endpoint_of(server.url), tmp_path)
        with pytest.raises(ModelError, match="404"):
            sent(ledger, endpoint_of(f"{server.url}/elsewhere"), tmp_path)
        server.behaviour.seconds = 0.0
        progress, _ = sent(ledger, endpoint_of(server.url), tmp_path)
        assert progress.failed == 0
        assert paid_once(server, asked)
