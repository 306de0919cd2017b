"""Laws of keys, rates and places."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.config import GrantConfig
from aligner.errors import MisuseError
from aligner.grant import grant
from aligner.serving.keys import ROLES, Keys, Role, read_keys
from aligner.serving.limits import Places, Rates
from aligner.serving.wire import WireError


def granted(path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A new key of that name."""
    grant(GrantConfig(name=name, keys=path))
    return capsys.readouterr().out.strip()


def status_of(keys: Keys, authorization: str) -> int:
    """What a header meets with."""
    try:
        keys.caller(authorization)
    except WireError as error:
        return error.status
    return 200


def test_a_granted_key_lets_in_until_its_line_is_taken_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds only its hash, and is read again when it changes; without it nobody is let in."""
    path = tmp_path / "keys.txt"
    one, two = (granted(path, name, capsys) for name in ("one", "the other"))
    keys = Keys("", path)
    assert keys.caller(f"Bearer {one}").name == "one"
    assert keys.caller(f"Bearer {two}").name == "the other"
    assert one not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[1])
    os.utime(path, ns=(1, 1))
    assert [status_of(keys, f"Bearer {key}") for key in (one, two)] == [401, 200]
    path.unlink()
    assert status_of(keys, f"Bearer {two}") == 401


@given(st.text())
def test_no_other_text_is_a_key(text: str) -> None:
    """Whatever its letters; and the key itself is none without its scheme."""
    keys = Keys("sk-ours")
    assert status_of(keys, text.encode("utf-8", "replace").decode("latin-1")) == 401
    assert status_of(keys, "sk-ours") == 401
    assert keys.caller("Bearer sk-ours").is_operator


@pytest.mark.parametrize("line", ["name", "name sha256:12", "name sha256:" + "G" * 64, " sha256:" + "0" * 64])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    """With the file, its number and the cure."""
    path = tmp_path / "keys.txt"
    path.write_text(f"# ours\n{line}\n")
    with pytest.raises(MisuseError, match=r"keys\.txt:2: .*aligner grant"):
        read_keys(path)


@pytest.mark.parametrize("role", ROLES)
def test_a_key_may_do_what_its_line_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], role: Role) -> None:
    """Each role may do what those before it may; a line without one is a client's, as it was before there were any."""
    path = tmp_path / "keys.txt"
    grant(GrantConfig(name="one of us", role=role, keys=path))
    key = capsys.readouterr().out.strip()
    caller = Keys("", path).caller(f"Bearer {key}")
    assert (caller.name, caller.role) == ("one of us", role)
    assert [caller.may(other) for other in ROLES] == [ROLES.index(other) <= ROLES.index(role) for other in ROLES]
    assert caller.is_operator == (role == "operator")
    assert (role in path.read_text()) == (role != "client")
    assert key not in repr(caller)


def test_a_role_that_is_none_is_named(tmp_path: Path) -> None:
    """With the file, its number, and the nearest that is one."""
    path = tmp_path / "keys.txt"
    path.write_text(f"x sha256:{'0' * 64} reviewr\n")
    with pytest.raises(MisuseError, match=r'role in .*keys\.txt:1 "reviewr"; did you mean "reviewer"'):
        read_keys(path)


@pytest.mark.parametrize("name", ["", "# x", "a sha256:b", "twice", "operator"])
def test_a_name_that_cannot_be_kept_is_refused(tmp_path: Path, name: str) -> None:
    """And so is one that has a key."""
    path = tmp_path / "keys.txt"
    path.write_text(f"twice sha256:{hashlib.sha256(b'k').hexdigest()}\n")
    before = path.read_text()
    with pytest.raises(MisuseError):
        grant(GrantConfig(name=name, keys=path))
    assert path.read_text() == before


@given(waits=st.lists(st.floats(0, 100), max_size=60), a_minute=st.integers(1, 10))
def test_no_minute_holds_more_requests_than_its_rate_allows_twice(waits: list[float], a_minute: int) -> None:
    """A burst of a minute's requests, and what came again meanwhile; and who waits as told is let in."""
    now, taken = 0.0, list[float]()
    rates = Rates(a_minute, lambda: now)
    for wait in waits:
        now += wait
        try:
            rates.take("a")
        except WireError as error:
            told = int(dict(error.headers)["retry-after"])
            now += told
            rates.take("a")
        taken.append(now)
        assert sum(now - 60 < at for at in taken) <= 2 * a_minute
    rates.take("another")


def test_one_too_many_at_once_is_told_when_to_come_again() -> None:
    """After one request's share of a minute."""
    rates = Rates(4, lambda: 0.0)
    for _ in range(4):
        rates.take("a")
    with pytest.raises(WireError) as raised:
        rates.take("a")
    assert raised.value.headers == (("retry-after", "15"),)


def test_places_are_taken_waited_for_and_given_back() -> None:
    """As many again may wait; the next is refused at once, and who waits too long, too."""

    async def run() -> list[str]:
        places, said = Places(2, 0.2), list[str]()
        leave = asyncio.Event()

        async def one() -> None:
            try:
                await places.take()
            except WireError as error:
                said.append(error.code or "")
                return
            said.append("in")
            await leave.wait()
            places.give_back()

        tasks = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert said == ["in", "in", "overloaded"]
        await asyncio.sleep(0.4)
        assert said == ["in", "in", "overloaded", "overloaded", "overloaded"]
        leave.set()
        await asyncio.gather(*tasks)
        await asyncio.gather(*(one() for _ in range(2)))
        return said

    assert asyncio.run(run())[-2:] == ["in", "in"]
