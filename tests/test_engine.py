"""Laws of the engine as a process that speaks over a socket: real processes, and nothing but the protocol."""

import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tiny import tiny_aligner

from aligner.correct import Aligner
from aligner.correcting.lm_writer import LMWriter
from aligner.records import Edit, SamplingParams, apply_edits

LYON = "Lyon is it. I like Lyon."
LONG = "why " * 300


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket in it."""
    with TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_aligner(tmp_path_factory.mktemp("aligner"))


def command(aligner: str, path: Path, *flags: str) -> list[str]:
    """The command line of an engine."""
    named = ["--aligner", aligner, "--socket", str(path), "--device", "cpu", *flags]
    return [sys.executable, "-m", "aligner.engine", *named]


@contextmanager
def running(aligner: str, path: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """An engine that is ended in the end, and ends well."""
    process = subprocess.Popen(command(aligner, path, *flags), stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


@dataclass
class Line:
    """A connection, line by line."""

    socket: socket.socket
    rest: bytes = b""

    def send(self, *messages: Any) -> None:
        """All in one write."""
        self.socket.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def hear(self) -> dict[str, Any] | None:
        """The next message, or none when the other side has closed."""
        while b"\n" not in self.rest:
            if not (chunk := self.socket.recv(2**16)):
                assert self.rest == b""
                return None
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def last(self, name: str) -> tuple[str, dict[str, Any]]:
        """The pieces of a work, added up, and its last message; nothing is said of another work meanwhile."""
        text = ""
        while (message := self.hear()) is not None:
            assert message["id"] == name
            if message["op"] != "token":
                return text, message
            text += message["text"]
        raise AssertionError("the engine closed the connection")


@contextmanager
def connected(path: Path) -> Iterator[Line]:
    """A connection that has been greeted."""
    until = time.monotonic() + 120
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        while True:
            try:
                client.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < until
                time.sleep(0.02)
        line = Line(client)
        ready = line.hear()
        assert ready is not None
        assert ready.keys() == {"op", "fingerprint", "context", "takes_instructions", "threshold"}
        assert ready["op"] == "ready"
        yield line


def opened(name: str, question: Any = "q") -> dict[str, Any]:
    return {"op": "open", "id": name, "question": question}


def finished(name: str, answer: str, **fields: Any) -> dict[str, Any]:
    usual = {"stop": [], "max_tokens": None, "gate": None, "doubt": False}
    return {"op": "finish", "id": name, "answer": answer} | usual | fields


def lyon(folder: Path) -> str:
    """An Aligner of rules that knows the capital of France."""
    (folder / "rules.json").write_text(json.dumps([{"pattern": "Lyon", "replace": "Paris"}]))
    return f"rules:{folder / 'rules.json'}"


def test_a_correction_is_told_piece_by_piece_and_then_as_a_whole(folder: Path) -> None:
    """The pieces add up to the text, the edits make it of the answer, and questions may be conversations."""
    with running(lyon(folder), folder / "s"), connected(folder / "s") as line:
        turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Capital?"}]
        for name, question in (("1", "Capital?"), ("2", turns)):
            line.send(opened(name, question), {"op": "append", "id": name, "text": "Lyon"}, finished(name, LYON))
            text, done = line.last(name)
            assert done["op"] == "done"
            assert text == done["text"] == "Paris is it. I like Paris."
            assert apply_edits(LYON, [Edit(*edit) for edit in done["edits"]]) == text
            assert (done["changed"], done["kept_reason"]) == (True, None)
            assert done["seconds"].keys() == {"queue", "read", "verify", "edit"}
            assert done["usage"]["passes"] == 0


def test_a_language_model_says_what_it_says_in_the_process_of_its_caller(folder: Path, checkpoint: Path) -> None:
    """Text, verdict, figures and doubt are those of `Aligner.correct`; a gate keeps; what does not fit is told."""
    answer = "The answer is very no."
    aligner = Aligner.from_pretrained(str(checkpoint), device="cpu")
    expected = aligner.correct("What?", answer, doubt=True)
    assert isinstance(aligner.writer, LMWriter)
    limit = len(aligner.writer.codec.encode(answer)) + 1
    cut = aligner.correct("What?", answer, sampling=SamplingParams(max_tokens=limit))
    with running(str(checkpoint), folder / "s"), connected(folder / "s") as line:
        line.send(opened("1", "What?"), finished("1", answer, doubt=True))
        text, done = line.last("1")
        assert (done["text"], done["changed"], done["kept_reason"]) == (
            expected.text,
            expected.changed,
            expected.kept_reason,
        )
        assert text == done["text"] or done["kept_reason"]
        assert done["confidence"] == pytest.approx(expected.confidence, rel=1e-3)
        assert done["doubt"] == pytest.approx(expected.doubt, rel=1e-3, abs=1e-6)
        assert done["usage"]["passes"] == expected.usage.passes
        line.send(opened("2", "What?"), finished("2", answer, gate=0.0))
        text, done = line.last("2")
        assert (text, done["text"], done["changed"], done["kept_reason"]) == ("", answer, False, "gate")
        assert done["usage"]["passes"] == 1
        line.send(opened("3", "What?"), finished("3", answer, gate=1.0))
        assert line.last("3")[1]["text"] == expected.text
        line.send(opened("4", "What?"), finished("4", answer, max_tokens=2))
        _, done = line.last("4")
        assert done["kept_reason"] == cut.kept_reason == "the correction was cut off"
        # A limit below the answer's own length is that length.
        assert done["usage"]["completion_tokens"] == cut.usage.completion_tokens == limit
        line.send(opened("5", LONG), finished("5", "so"))
        text, error = line.last("5")
        assert (text, error["op"], error["cause"]) == ("", "error", "too_long")
        assert "context holds 256" in error["message"]


def test_more_than_can_wait_are_refused_at_once(folder: Path) -> None:
    """Of nine that come together, one is done and two wait; the others are told, and later ones are taken in again."""
    with running("echo:", folder / "s", "--rows", "1", "--waiting", "2"), connected(folder / "s") as line:
        names = [str(number) for number in range(9)]
        line.send(*map(opened, names), *(finished(name, f"canary {name}") for name in names))
        heard = [line.hear() for _ in range(6 + 2 * 3)]
        ends = {message["id"]: message for message in heard if message and message["op"] != "token"}
        assert [ends[name].get("text") for name in names[:3]] == [f"canary {name}" for name in names[:3]]
        assert [ends[name].get("cause") for name in names[3:]] == ["queue_full"] * 6
        line.send(opened("later"), finished("later", "canary"))
        assert line.last("later")[1]["text"] == "canary"


def test_a_cancelled_work_is_not_heard_of(folder: Path) -> None:
    """Cancelled before its end or its answer's, it is gone, and its name is free."""
    with running("echo:", folder / "s"), connected(folder / "s") as line:
        for _ in range(20):
            line.send(opened("1"), {"op": "cancel", "id": "1"}, {"op": "cancel", "id": "1"})
            line.send(opened("1"), finished("1", "never"), {"op": "cancel", "id": "1"})
            line.send({"op": "append", "id": "1", "text": "late"}, opened("2"), finished("2", "canary"))
            assert line.last("2")[0] == "canary"


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([{"op": "sing", "id": "1"}], "no such op"),
        ([{"id": "1"}], '"op" is no text'),
        ([opened("1", 3)], "is neither a text nor a list of messages"),
        ([opened("1"), opened("1")], "opened twice"),
        ([finished("1", "a")], "finished twice, or before it was opened"),
        ([opened("1"), finished("1", "a", max_tokens=0)], '"max_tokens" is no number from 1'),
        ([opened("1"), {"op": "append", "id": "1", "text": 1}], '"text" is no text'),
    ],
)
def test_what_makes_no_sense_is_said_and_ends_its_work_alone(
    echo: Path, messages: list[dict[str, Any]], problem: str
) -> None:
    """Others of the same connection go on."""
    with connected(echo) as line:
        line.send(opened("other"), *messages, finished("other", "canary"))
        found: dict[str, Any] = {}
        while found.keys() != {"1", "other"}:
            message = line.hear()
            assert message is not None
            if message["op"] != "token":
                found[message["id"]] = message
        assert (found["1"]["op"], found["1"]["cause"]) == ("error", "engine_down")
        assert problem in found["1"]["message"]
        assert found["other"]["text"] == "canary"


@pytest.fixture(scope="module")
def echo() -> Iterator[Path]:
    """The socket of an engine that copies."""
    with TemporaryDirectory() as name, running("echo:", Path(name) / "s"):
        yield Path(name) / "s"


@pytest.mark.parametrize("garbage", [b"\xff\xfe\n", b"{]\n", b"[]\n", b'{"op": "open"}\n', b'{"op": "open", "id":'])
def test_a_connection_that_speaks_otherwise_is_closed(echo: Path, garbage: bytes) -> None:
    """Garbage, and half a message, end their connection, and no other."""
    with connected(echo) as line, connected(echo) as other:
        line.socket.sendall(garbage)
        line.socket.shutdown(socket.SHUT_WR)
        assert line.hear() is None
        other.send(opened("1"), finished("1", "canary"))
        assert other.last("1")[0] == "canary"


def test_a_client_that_does_not_read_is_cut_off(echo: Path) -> None:
    """What it leaves unread does not grow without end, and others go on."""
    count, size = 16, 2**22
    with connected(echo) as line, connected(echo) as other:
        with suppress(ConnectionError):
            for name in map(str, range(count)):
                line.send(opened(name), finished(name, "a" * size))
        other.send(opened("1"), finished("1", "canary"))
        assert other.last("1")[0] == "canary"
        heard = 0
        with suppress(ConnectionError):
            while chunk := line.socket.recv(2**20):
                heard += len(chunk)
        assert heard < 2 * count * size


def test_connections_do_not_share_their_names(echo: Path) -> None:
    """The same name on two connections is two works."""
    with connected(echo) as one, connected(echo) as two:
        for line, answer in ((one, "first"), (two, "second")):
            line.send(opened("1"), finished("1", answer))
        assert [line.last("1")[0] for line in (one, two)] == ["first", "second"]


def test_nobody_else_can_reach_the_socket(echo: Path) -> None:
    """Only its owner may read and write it."""
    with connected(echo):
        assert stat.S_IMODE(echo.stat().st_mode) == 0o600


def test_what_a_killed_engine_left_behind_is_no_obstacle(folder: Path) -> None:
    """A socket that nobody listens to is replaced, and one that was used goes with its engine."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "s"))
    with running("echo:", folder / "s"), connected(folder / "s") as line:
        line.send(opened("1"), finished("1", "canary"))
        assert line.last("1")[0] == "canary"
    assert not (folder / "s").exists()


@pytest.mark.slow
def test_sigterm_ends_it_with_works_pending(folder: Path, checkpoint: Path) -> None:
    """Connections are closed, the exit code is 0, and nothing is said; `running` looks."""
    with running(str(checkpoint), folder / "s") as process, connected(folder / "s") as line:
        names = [str(number) for number in range(40)]
        line.send(*map(opened, names), *(finished(name, "The answer is " + "very " * 20) for name in names))
        assert line.hear() is not None
        process.terminate()
        while line.hear() is not None:
            pass
        assert process.wait(60) == 0


def test_it_ends_with_its_parent(folder: Path) -> None:
    """Whoever started it may be killed at any moment; nobody is left over."""
    arguments = command("echo:", folder / "s")
    starts = f"import subprocess, time; print(subprocess.Popen({arguments!r}).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        with connected(folder / "s") as line:
            parent.kill()
            assert line.hear() is None
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not (folder / "s").exists()


@pytest.mark.parametrize(
    ("aligner", "name", "flags", "problem"),
    [
        ("foo:", "s", [], 'unknown kind of Aligner "foo"'),
        ("echo:", "none/s", [], "none/s: no socket can be made there: No such file or directory"),
        ("echo:", "s" * 200, [], "no socket can be made there: AF_UNIX path too long"),
        ("echo:", "s", ["--rows", "0"], "--rows begins at 1, and --waiting at 0"),
    ],
)
def test_what_cannot_be_started_says_so_in_one_line(
    folder: Path, aligner: str, name: str, flags: list[str], problem: str
) -> None:
    """The exit code is that of misuse."""
    done = subprocess.run(command(aligner, folder / name, *flags), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert problem in done.stderr.splitlines()[-1]


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    """It is not replaced, and still there afterwards."""
    (folder / "s").write_text("precious")
    done = subprocess.run(command("echo:", folder / "s"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert (folder / "s").read_text() == "precious"


def test_an_aligner_that_needs_no_torch_is_ready_without_it(folder: Path) -> None:
    """Rules and copies start in a moment, since nothing heavy is loaded for them."""
    with running("echo:", folder / "s") as process, connected(folder / "s"):
        mapped = Path(f"/proc/{process.pid}/maps")
        if not mapped.exists():
            pytest.skip("this system does not tell what a process has loaded")
        assert "libtorch" not in mapped.read_text()
