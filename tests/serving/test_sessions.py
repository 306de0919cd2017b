"""Laws of sessions and their cookies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.serving.sessions import COOKIE, Session, Sessions, cookie_in, cookie_of
from aligner.serving.wire import WireError


def test_a_token_is_random_and_the_server_keeps_only_its_hash() -> None:
    """256 bits each, none like another; nothing that the server holds or prints can be used in its place."""
    sessions = Sessions()
    tokens = {sessions.open("digest", "owner") for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) == 43
    held: dict[str, Session] = sessions._by_hash  # noqa: SLF001  # what is in the memory, and nowhere else
    assert not any(token in repr(sessions) + str(list(held.items())) for token in tokens)
    assert all(sessions.find(name) is None for name in list(held))


def test_a_session_ends_when_it_is_idle_or_closed() -> None:
    """Whenever it is used, its time begins anew."""
    times = [0.0]
    sessions = Sessions(seconds=10, clock=lambda: times[-1])
    token, other = sessions.open("digest", "owner"), sessions.open("digest", "owner")
    for now in (9.0, 18.0, 27.0):
        times.append(now)
        assert sessions.find(token) is not None
    assert sessions.find(other) is None
    sessions.close(token)
    assert sessions.find(token) is None
    last = sessions.open("digest", "owner")
    times.append(37.0)
    assert (sessions.find(last), len(sessions)) == (None, 0)


def test_there_are_never_more_sessions_than_may_be() -> None:
    """The one that was used least lately ends."""
    sessions = Sessions(most=3)
    tokens = [sessions.open("digest", "owner") for _ in range(3)]
    assert sessions.find(tokens[0])
    tokens.append(sessions.open("digest", "owner"))
    assert [sessions.find(token) is not None for token in tokens] == [True, False, True, True]


@given(st.text(st.characters(max_codepoint=255)))
def test_no_other_text_is_the_token_of_a_page(text: str) -> None:
    """Whatever its letters."""
    session = Session("digest", "owner", "csrf", 0.0)
    session.check("csrf")
    if text != "csrf":
        with pytest.raises(WireError, match="x-csrf-token"):
            session.check(text)


@given(st.text(st.characters(max_codepoint=255)), st.text("ab;= \"'\\,", max_size=9))
def test_any_cookie_header_is_read(header: str, value: str) -> None:
    """Nonsense holds no cookie, and raises nothing."""
    assert isinstance(cookie_in(header, COOKIE), str)
    assert isinstance(cookie_in(f"{COOKIE}={value}", COOKIE), str)
    assert cookie_in(f'a={{"b": [1, "c"]}}; d; {COOKIE}=token; e=f', COOKIE) == "token"


@pytest.mark.parametrize("secure", [False, True])
def test_no_script_and_no_other_site_can_use_a_cookie(secure: bool) -> None:
    """And over TLS it goes over nothing else."""
    name, value = cookie_of("a", "b", secure=secure)
    assert name == "set-cookie"
    assert value.split("; ") == ["a=b", "Path=/", "HttpOnly", "SameSite=Strict", *(["Secure"] if secure else [])]
    assert cookie_of("a", "", secure=secure, ends=True)[1].endswith("Max-Age=0")
