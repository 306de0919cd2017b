"""How fast the review queue answers, over HTTP, with a log of a million corrections on SQLite and on PostgreSQL.

    python benchmarks/review.py           1,000,000 rows on each
    python benchmarks/review.py --quick   100,000 rows on each, within a minute

The log is filled by the store that the proxy writes with; one row in twenty has been judged, by up to three people.
Then `aligner serve`'s own application listens on loopback, and is asked for pages of 50 by filters, words and orders in
random turns: what is everywhere and what is nowhere, first pages and later ones. A time is that of the client.
Time it with nothing else on the machine.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import sqlalchemy
from record import record
from review_rows import DAYS, FREQUENT, NOW, ONLY_KEPT, RARE, feedback, rows

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from postgresql import running_server

from aligner.config import ServeConfig
from aligner.serve import opened
from aligner.serving.database import place_of
from aligner.serving.store import Store
from aligner.testing import serving

FULL, QUICK = 1_000_000, 100_000
JUDGED = 20
"""one row in so many"""
ROUNDS, QUICK_ROUNDS = 20, 8
LIMIT_MS = 200.0
_BATCH = 2_000
_DAY = 86_400
_EARLY = str(NOW - (DAYS - 0.02) * _DAY)

QUERIES: Mapping[str, Mapping[str, str]] = {
    "newest": {},
    "oldest": {"sort": "oldest"},
    "last page": {"until": _EARLY},
    "most edited": {"sort": "edits"},
    "most doubtful": {"sort": "doubt"},
    "changed": {"changed": "true"},
    "changed, much": {"changed": "true", "edit_min": "0.75"},
    "kept, much edited (none)": {"changed": "false", "edit_min": "0.5"},
    "narrow share": {"edit_min": "0.0612", "edit_max": "0.0613"},
    "rare model": {"model": "c-test"},
    "model of another upstream (none)": {"upstream": "https://a/v1", "model": "b-large"},
    "bypassed in a week": {"reason": "timeout", "since": str(NOW - 30 * _DAY), "until": str(NOW - 23 * _DAY)},
    "old mode, latest Aligner (none)": {"mode": "shadow", "aligner": "demo@3"},
    "open": {"state": "open", "changed": "true"},
    "disputed": {"state": "disputed"},
    "disputed, most edited": {"state": "disputed", "sort": "edits"},
    "settled, gate, small": {"state": "settled", "mode": "gate", "model": "a-small"},
    "rare word": {"search": RARE},
    "frequent word": {"search": FREQUENT},
    "unknown word": {"search": "nowhere"},
    "middling words": {"search": "w1000 word300"},
    "frequent word, oldest": {"search": FREQUENT, "sort": "oldest"},
    "frequent word, most edited": {"search": FREQUENT, "sort": "edits", "changed": "true"},
    "middling word, most doubtful": {"search": "w2000", "sort": "doubt"},
    "rare filter and frequent word": {"search": FREQUENT, "model": "c-test"},
    "changed, with a word of kept ones (none)": {"search": ONLY_KEPT, "changed": "true"},
    "disputed, frequent word": {"search": FREQUENT, "state": "disputed"},
    "rare word, disputed": {"search": RARE, "state": "disputed"},
    "everything at once": {
        "search": f"{FREQUENT} word3",
        "changed": "true",
        "upstream": "https://b/v1",
        "edit_min": "0.12",
        "edit_max": "0.44",
        "state": "open",
        "sort": "doubt",
        "since": str(NOW - 60 * _DAY),
    },
}


def main() -> None:
    """Fill both databases, ask both, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 rows, within a minute")
    quick = parser.parse_args().quick
    count, rounds = (QUICK, QUICK_ROUNDS) if quick else (FULL, ROUNDS)
    with tempfile.TemporaryDirectory() as folder, running_server() as server:
        databases = {"sqlite": f"{folder}/log.db", "postgresql": server.new_database()}
        with ProcessPoolExecutor(len(databases), get_context("spawn")) as pool:
            filled = dict(zip(databases, pool.map(fill, databases.values(), [count] * len(databases)), strict=True))
        taken = {name: asyncio.run(ask(database, rounds)) for name, database in databases.items()}
    for name, times in taken.items():
        print(f"\n{name}: filled in {filled[name]:.0f} s\n{table(times)}", flush=True)
    each = {name: summary(times) for name, times in taken.items()}
    worst = max(figures["p95_ms"] for figures in each.values())
    record("review_quick" if quick else "review", {"rows": count, "p95_ms": worst, "limit_ms": LIMIT_MS, **each})


def fill(database: str, count: int) -> float:
    """Write the log, and give how many seconds it took."""
    begun, judged = time.monotonic(), random.Random(3)
    with closing(Store(place_of(database))) as store:
        store.open()
        ids = list[str]()
        with filling(database):
            for batch in batched_rows(count):
                if refused := store.write(batch):
                    raise ValueError(f"{refused} rows were refused")
                ids += [row.id for row in batch if judged.random() < 1 / JUDGED]
        for said in feedback(ids):
            store.note(said)
    return time.monotonic() - begun


def batched_rows(count: int) -> Iterator[list[Any]]:
    """Rows in portions."""
    made, batch = rows(count), list[Any]()
    for row in made:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def filling(database: str) -> Generator[None]:
    """PostgreSQL sorts its words in at once at the end, and knows then how its rows are spread."""
    if database.startswith("postgresql"):
        engine = sqlalchemy.create_engine(place_of(database).url)
        with engine.begin() as connection:
            made = connection.scalar(sqlalchemy.text("SELECT pg_get_indexdef('aligner_words_search'::regclass)"))
            connection.exec_driver_sql("DROP INDEX aligner_words_search")
        yield
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '1GB'")
            connection.exec_driver_sql(str(made))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        engine.dispose()
    else:
        yield


async def ask(database: str, rounds: int) -> Mapping[str, list[float]]:
    """The milliseconds of each kind of page."""
    config = ServeConfig(upstream="http://127.0.0.1:1/v1", aligner="echo:", log=database, log_content="full")
    taken, order = defaultdict[str, list[float]](list), random.Random(4)
    async with opened(config, {}) as app, serving(app) as url, aiohttp.ClientSession(f"{url}/v1/aligner/") as session:
        for number in range(rounds + 1):
            for name in order.sample(list(QUERIES), len(QUERIES)):
                # Every other time it is the page behind the first.
                milliseconds = await nth_page(session, QUERIES[name], number % 2)
                if number:  # the first round warms up
                    taken[name].append(milliseconds)
        taken["facets"].append((await got(session, "facets"))[1])
        page, _ = await got(session, "corrections")
        taken["one correction"].append((await got(session, f"corrections/{page['rows'][0]['id']}"))[1])
    return taken


async def nth_page(session: aiohttp.ClientSession, query: Mapping[str, str], pages: int) -> float:
    """The milliseconds of the page behind so many, or of the last."""
    page, milliseconds = await got(session, "corrections", query)
    for _ in range(pages):
        if page["next"]:
            page, milliseconds = await got(session, "corrections", {**query, "cursor": page["next"]})
    return milliseconds


async def got(
    session: aiohttp.ClientSession, path: str, query: Mapping[str, str] | None = None
) -> tuple[Mapping[str, Any], float]:
    """An answer, and the milliseconds that it took."""
    begun = time.perf_counter()
    async with session.get(path, params=query or {}) as response:
        body = await response.read()
        milliseconds = 1e3 * (time.perf_counter() - begun)
        if response.status != 200:
            raise ValueError(f"{path} with {query} is answered with {response.status}: {body[:200]!r}")
        return orjson.loads(body), milliseconds


def summary(times: Mapping[str, Sequence[float]]) -> Mapping[str, Any]:
    """The quantiles of all, and the 95th of each kind."""
    together = [milliseconds for taken in times.values() for milliseconds in taken]
    p50, p95 = (round(float(np.quantile(together, q)), 1) for q in (0.5, 0.95))
    slowest = {name: round(float(np.quantile(taken, 0.95)), 1) for name, taken in times.items()}
    return {"p50_ms": p50, "p95_ms": p95, "worst_ms": round(max(together), 1), "queries": slowest}


def table(times: Mapping[str, Sequence[float]]) -> str:
    """A line for each kind of page."""
    lines = [f"{'':42}{'p50':>8}{'p95':>8}{'worst':>8}  ms"]
    for name, taken in times.items():
        p50, p95 = np.quantile(taken, (0.5, 0.95))
        lines.append(f"{name:42}{p50:8.1f}{p95:8.1f}{max(taken):8.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
