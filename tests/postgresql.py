"""A real PostgreSQL in a temporary folder, which listens on a Unix socket and nowhere else."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

_FAST = ("fsync=off", "full_page_writes=off", "listen_addresses=", "max_connections=20")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be stopped and started again."""

    binaries: Path
    folder: Path
    _numbers: "count[int]" = field(default_factory=count)

    def start(self) -> None:
        """Start, and return when connections are taken."""
        options = " ".join(f"-c {setting}" for setting in (*_FAST, f"unix_socket_directories={self.folder}"))
        self.run("pg_ctl", "start", "--wait", "--pgdata=data", "--log=log", f"--options={options}")

    def stop(self) -> None:
        """Stop at once, whoever is connected."""
        self.run("pg_ctl", "stop", "--wait", "--pgdata=data", "--mode=immediate")

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test{next(self._numbers)}"
        self.run("createdb", *self._where, name)
        return f"postgresql://aligner@/{name}?host={self.folder}"

    def new_schema(self) -> str:
        """The URL of an empty part of the first database; unlike a database of its own, it costs next to nothing."""
        name = f"test{next(self._numbers)}"
        self.run("psql", *self._where, "--dbname=postgres", f"--command=CREATE SCHEMA {name}")
        return f"postgresql://aligner@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    @property
    def _where(self) -> tuple[str, ...]:
        return ("--host", str(self.folder), "--username=aligner")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, as a user of its own where the tests run as root, which it refuses."""
        user = _owner()
        done = subprocess.run(
            [self.binaries / program, *arguments],
            cwd=self.folder,
            # pg_ctl would leave a pipe open in the server, and whoever reads it would wait for the server's end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
        )
        log = self.folder / "log"
        assert done.returncode == 0, f"{program} failed: {log.read_text() if log.exists() else 'no log'}"


@contextmanager
def running_server() -> Generator[Server]:
    """A server that is running; the test is skipped where PostgreSQL is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("pg_ctl")
    if not installed and not on_path:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="aligner-postgresql-"))  # short, as the path of a socket must be
    try:
        if user := _owner():
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = Server(installed[-1] if installed else Path(str(on_path)).parent, folder)
        # Words in the order of a language, as most servers have it.
        order = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
        server.run("initdb", "--pgdata=data", "--username=aligner", "--auth=trust", "--no-sync", *order)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _owner() -> pwd.struct_passwd | None:
    """Who runs the server, if it cannot be whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")
