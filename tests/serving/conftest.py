"""Databases for the tests of the correction log: each test has one of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql import Server, running_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, the same for all tests."""
    with running_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that is empty: a SQLite file, and a part of a PostgreSQL server."""
    if request.param == "sqlite":
        return str(tmp_path / "log.db")
    return request.getfixturevalue("postgresql").new_schema()
