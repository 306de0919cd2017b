"""Laws of prices and of the purse."""

from contextlib import ExitStack
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.building.batches.register import BatchFile, Register
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply, Request
from aligner.building.spending import Prices, Purse
from aligner.building.store import Store
from aligner.building.workers import Worker

TOKENS = st.integers(0, 10**6)
PRICES = st.floats(0, 1000)


@given(PRICES, PRICES, st.floats(0, 1), TOKENS, TOKENS)
def test_a_cost_is_that_of_its_tokens(price_in: float, price_out: float, share: float, read: int, written: int) -> None:
    """Each token costs the millionth part of its price, a batch the share of it; prices of nothing cost nothing."""
    prices = Prices(price_in, price_out, share)
    expected = share * (read / 1e6 * price_in + written / 1e6 * price_out)
    assert prices.cost(read, written) == pytest.approx(expected)
    assert not (prices.are_nothing and prices.cost(read, written))


def test_a_purse_is_empty_once_all_workers_together_spent_the_limit(tmp_path: Path) -> None:
    """Failures that cost something count, whoever put them; without a limit it is never empty."""
    with ExitStack() as opened:
        ledgers = [
            Ledger(opened.enter_context(Store(tmp_path / "b")), opened.enter_context(Worker(tmp_path)))
            for _ in range(2)
        ]
        ledgers[0].add(Request(key=key, stage="answers", model="m", messages=(), about=key) for key in "abc")
        purse = Purse(ledgers[0], 1.0)
        assert (purse.left(), Purse(ledgers[0]).left()) == (1.0, inf)
        ledgers[1].put("a", Failure("unusable", "no text", 0.75))
        assert purse.may_spend()
        ledgers[1].put("b", Reply("x", cost=0.25))
        assert not purse.may_spend()
        assert Purse(ledgers[0]).may_spend()
        assert "1 USD spent of --max-cost 1, 7 calls are left" in str(purse.error(7))


def test_what_open_batches_may_cost_is_promised_to_them(tmp_path: Path) -> None:
    """A live call may not spend it, the batch itself may; a closed file promises nothing."""
    with Store(tmp_path / "b") as store, Worker(tmp_path) as worker:
        ledger = Ledger(store, worker)
        ledger.add([Request(key="a", stage="answers", model="m", messages=(), about="a")])
        purse = Purse(ledger, 10.0)
        with Register(store.path) as register:
            file = BatchFile(1, "answers", "m", "f", "t", 10.0)
            register.add(file, ["a"])
            assert (purse.left(), purse.unspent(), purse.may_spend()) == (0.0, 10.0, False)
            assert "0 USD spent and 10 for open batches of --max-cost 10" in str(purse.error(1))
            register.keep(file, 0.5)
            assert purse.left() == 5.0
            register.close(file)
        assert purse.left() == 10.0
