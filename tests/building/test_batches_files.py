"""The laws of batch files for offline engines: written once, and collected as far as their outputs are."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from batch_builds import PRICES, faults, filed, files_endpoint, ledger_in, outcomes, requests
from batch_server import words_of
from hypothesis import given
from hypothesis import strategies as st

from aligner.building.batches import FileLimits, FilesEndpoint, register
from aligner.building.batches.lines import Terms, line_of, outcome_of, read_line
from aligner.building.nouns import Failure, Reply
from aligner.building.spending import Prices
from aligner.building.store import Store
from aligner.errors import OutputFileError
from aligner.records import Message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def fields(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object in which each field may be missing or anything, or anything at all."""
    return JSON | st.fixed_dictionaries({}, optional={name: JSON | value for name, value in known.items()})


TEXT = st.text(max_size=400)
MESSAGE = fields(content=TEXT, refusal=TEXT, tool_calls=st.lists(JSON, max_size=1))
USAGE = fields(prompt_tokens=st.integers(-5, 2**63), completion_tokens=st.integers(-5, 2**63))
ERROR = fields(code=st.sampled_from(["batch_expired", "request_timeout"]), message=TEXT, error=fields(message=TEXT))
BODY = fields(choices=st.lists(fields(message=MESSAGE, finish_reason=TEXT), max_size=2), usage=USAGE, error=ERROR)
RESPONSE = fields(status_code=st.integers(100, 600), body=BODY)
LINE = st.fixed_dictionaries({}, optional={"response": RESPONSE, "error": ERROR | TEXT})


def vllm(line: bytes, **changes: Any) -> dict[str, Any]:
    """What `vllm run-batch` writes for a line (vllm/entrypoints/openai/run_batch.py, BatchRequestOutput)."""
    asked = json.loads(line)
    text = words_of(asked["body"])
    message = {"role": "assistant", "content": text, "refusal": None, "tool_calls": [], "reasoning": None}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": asked["body"]["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}],
        "usage": {"prompt_tokens": 4, "total_tokens": 8, "completion_tokens": 4, "prompt_tokens_details": None},
        "prompt_logprobs": None,
    }
    response = {"status_code": 200, "request_id": "vllm-batch-1", "body": body}
    return {"id": "vllm-1", "custom_id": asked["custom_id"], "response": response, "error": None} | changes


def vllm_error(error: Any, status: int = 400) -> dict[str, Any]:
    """The fields by which it tells of an error: text, or an error object, beside a response without a body."""
    return {"response": {"status_code": status, "request_id": "vllm-batch-1", "body": None}, "error": error}


def run_engine(path: Path, **changes: Any) -> bytes:
    """Write the output of an engine, and give it; `changes` are made to each line."""
    lines = [vllm(line, **changes) for line in path.read_bytes().splitlines()]
    output = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    path.with_suffix(".out.jsonl").write_bytes(output)
    return output


def test_files_are_written_once_and_collected_when_they_are_answered(tmp_path: Path) -> None:
    """Lines are those of the published format; each run collects the outputs that are there, and repeats nothing."""
    asked = requests(f"question {i}" for i in range(5))
    endpoint = files_endpoint(limits=FileLimits(requests=3))
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        first, said = filed(ledger, endpoint, tmp_path)
        assert (first.waiting, first.files, first.todo) == (5, 2, 0)
        assert "vllm run-batch -i" in said[0]
        one, two = (tmp_path / "batches" / f"up-000{i}.jsonl" for i in (1, 2))
        lines = [json.loads(line) for path in (one, two) for line in path.read_bytes().splitlines()]
        assert {line["custom_id"] for line in lines} == {request.key for request in asked}
        by_key = {request.key: request for request in asked}
        for line in lines:
            request = by_key[line["custom_id"]]
            turns = [{"role": message.role, "content": message.content} for message in request.messages]
            assert line == {
                "custom_id": request.key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "tiny", "messages": turns, "temperature": 0.5, "top_p": 0.95, "max_tokens": 64},
            }
        written = one.read_bytes(), two.read_bytes()
        run_engine(two)
        second, _ = filed(ledger, endpoint, tmp_path)
        assert (second.done, second.waiting, second.files) == (2, 3, 1)
        assert (one.read_bytes(), two.read_bytes()) == written
        run_engine(one)
        third, _ = filed(ledger, endpoint, tmp_path)
        assert (third.done, third.waiting, third.files) == (3, 0, 0)
        assert filed(ledger, endpoint, tmp_path) == ((0, 0, 0, 0, 0, False), [])
        for content, reply in outcomes(ledger, asked).items():
            assert reply == Reply(f"Reply to {content}", "stop", 4, 4, PRICES.cost(4, 4), "files")


def test_an_output_that_grows_is_collected_piece_by_piece(tmp_path: Path) -> None:
    """Cut anywhere, also inside a character, an output gives its whole lines; in the end all are there, once."""
    asked = requests(f"quéstion {i} 😀" for i in range(30))
    random = Random(3)
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        filed(ledger, files_endpoint(), tmp_path)
        path = tmp_path / "batches" / "up-0001.jsonl"
        output = run_engine(path).decode().encode()
        done = 0
        for cut in [*sorted(random.randrange(len(output)) for _ in range(12)), len(output)]:
            path.with_suffix(".out.jsonl").write_bytes(output[:cut])
            progress, _ = filed(ledger, files_endpoint(), tmp_path)
            done += progress.done
            assert output[:cut].count(b"\n") <= done <= output[:cut].count(b"\n") + 1
            assert progress.waiting == 30 - done
        assert done == 30
        assert ledger.spent() == pytest.approx(30 * PRICES.cost(4, 4))
        for content, reply in outcomes(ledger, asked).items():
            assert isinstance(reply, Reply)
            assert reply.text == f"Reply to {content}"


def test_what_an_engine_left_out_goes_into_a_new_file_once_its_input_is_deleted(tmp_path: Path) -> None:
    """Only the requests without an outcome are written again."""
    asked = requests(f"question {i}" for i in range(6))
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        filed(ledger, files_endpoint(), tmp_path)
        path = tmp_path / "batches" / "up-0001.jsonl"
        output = path.with_suffix(".out.jsonl")
        output.write_bytes(b"".join(run_engine(path).splitlines(keepends=True)[:2]))
        path.unlink()
        progress, _ = filed(ledger, files_endpoint(), tmp_path)
        assert (progress.done, progress.waiting, progress.files) == (2, 4, 1)
        rest = tmp_path / "batches" / "up-0002.jsonl"
        assert rest.read_bytes().count(b"\n") == 4
        run_engine(rest)
        assert filed(ledger, files_endpoint(), tmp_path)[0].done == 4
        assert not faults(ledger, asked)


@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [
        ("Request must not be sent in stream mode", 400, "refused"),
        ({"error": {"message": "maximum context length is 8", "type": "BadRequestError", "code": 400}}, 400, "context"),
        ({"object": "error", "message": "out of memory", "type": "ServerError", "code": 500}, 500, "transient"),
        ({"error": {"message": "no such model", "type": "NotFoundError", "code": 404}}, 404, "refused"),
    ],
)
def test_errors_of_engines_are_failures(tmp_path: Path, error: Any, status: int, fault: str) -> None:
    """Both ways in which vLLM tells of an error are understood, and close the file."""
    asked = requests(["question"])
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        filed(ledger, files_endpoint(), tmp_path)
        run_engine(tmp_path / "batches" / "up-0001.jsonl", **vllm_error(error, status))
        progress, _ = filed(ledger, files_endpoint(), tmp_path)
        assert (progress.failed, progress.waiting, progress.files) == (1, 0, 0)
        assert faults(ledger, asked) == {"question": fault}


def test_lines_about_something_else_are_passed_over(tmp_path: Path) -> None:
    """Rubbish, empty lines, unknown ids and second lines of one request change nothing."""
    asked = requests(["one", "two"])
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        filed(ledger, files_endpoint(), tmp_path)
        path = tmp_path / "batches" / "up-0001.jsonl"
        first, second = run_engine(path).splitlines(keepends=True)
        other = first.replace(b"Reply to", b"Another reply to")
        strange = b"\n\xff\xfe\n[1]\n{}\nnull\n" + json.dumps({"custom_id": "f" * 64, "error": "x"}).encode() + b"\n"
        path.with_suffix(".out.jsonl").write_bytes(strange + first + other + strange + second)
        assert filed(ledger, files_endpoint(), tmp_path)[0].done == 2
        assert {content: reply and reply[0] for content, reply in outcomes(ledger, asked).items()} == {
            "one": "Reply to one",
            "two": "Reply to two",
        }


@pytest.mark.parametrize("name", ["../../up", "/etc/passwd", "..", "a b\n|c", "é" * 300, "up.out"])
def test_names_of_files_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    """Whatever an upstream is called, its files are in the folder of batches, under plain names."""
    asked = requests(["question"], model=name)
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        assert filed(ledger, files_endpoint(name=name), tmp_path)[0].waiting == 1
        (path,) = (tmp_path / "batches").glob("*.jsonl")
        assert path.name.isascii()
        run_engine(path)
        assert filed(ledger, files_endpoint(name=name), tmp_path)[0].done == 1


def test_results_of_another_store_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    """Where the folder holds results of a store that is gone, new files get other numbers."""
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "up-0001.out.jsonl").write_bytes(b"{}\n")
    with ledger_in(tmp_path) as ledger:
        ledger.add(requests(["question"]))
        filed(ledger, files_endpoint(), tmp_path)
    assert (tmp_path / "batches" / "up-0002.jsonl").exists()


def test_engines_are_asked_for_the_model_behind_its_kind() -> None:
    """The kind of a model and the address of a server are no part of what the engine calls it."""
    names = [
        FilesEndpoint.of("up", model, Prices()).model for model in ("hf:org/name", "openai:m@http://h/v1", "plain")
    ]
    assert names == ["org/name", "m", "plain"]


def test_a_reply_with_half_a_character_is_not_lost(tmp_path: Path) -> None:
    """Words that a strict reader of JSON refuses were paid for: they are kept, with a stand-in for what is broken."""
    asked = requests(["question"])
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        filed(ledger, files_endpoint(), tmp_path)
        path = tmp_path / "batches" / "up-0001.jsonl"
        output = run_engine(path).replace(b"Reply to", b"Reply \\ud83d to").replace(b'"created": 1', b'"created": NaN')
        path.with_suffix(".out.jsonl").write_bytes(output)
        assert filed(ledger, files_endpoint(), tmp_path)[0].done == 1
        reply = outcomes(ledger, asked)["question"]
        assert isinstance(reply, Reply)
        assert reply.text.startswith("Reply ")
        assert reply.text.endswith(" to question")


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1), st.text())
def test_a_line_holds_any_text_on_one_line(turns: list[tuple[Any, str]], model: str) -> None:
    """Whatever the words are, the line is one line of JSON that holds them all."""
    (request,) = requests(["question"])
    messages = tuple(Message(role, content) for role, content in turns)
    object.__setattr__(request, "messages", messages)
    line = line_of(request, model, "/v1/chat/completions")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    body = json.loads(line)["body"]
    assert body["model"] == model
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == turns


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_reading_a_line_never_fails(line: bytes) -> None:
    """Whatever bytes stand in an output, a line is a result with a key, or nothing."""
    result = read_line(line)
    assert result is None or result.key


@given(LINE)
def test_any_line_has_an_outcome(line: dict[str, Any]) -> None:
    """Whatever a server writes, the outcome is a reply or a failure of one line, at no negative cost."""
    (request,) = requests(["question"])
    outcome = outcome_of(line, request, Terms(PRICES, "batch"))
    assert outcome.cost >= 0
    if isinstance(outcome, Failure):
        assert "\n" not in outcome.said
        assert len(outcome.said) <= 300


@pytest.mark.parametrize("told", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_a_reply_without_usage_costs_what_its_letters_make(told: Any) -> None:
    """To tell no usage is no way around the limit, here as little as live."""
    (request,) = requests(["x" * 392])
    body = {"choices": [{"message": {"content": "y" * 40}}], "usage": told}
    outcome = outcome_of({"response": {"status_code": 200, "body": body}}, request, Terms(PRICES, "batch"))
    assert outcome == Reply("y" * 40, "stop", 100, 10, PRICES.cost(100, 10), "batch")


@pytest.mark.parametrize("tokens", [10**19, 10**30, -5])
def test_no_number_in_a_line_stops_the_others(tmp_path: Path, tokens: int) -> None:
    """Whatever usage a server tells, every line is stored."""
    asked = requests(["one", "two"])
    with ledger_in(tmp_path) as ledger:
        ledger.add(asked)
        filed(ledger, files_endpoint(), tmp_path)
        path = tmp_path / "batches" / "up-0001.jsonl"
        output = run_engine(path).replace(b'"prompt_tokens": 4', b'"prompt_tokens": %d' % tokens, 1)
        path.with_suffix(".out.jsonl").write_bytes(output)
        assert filed(ledger, files_endpoint(), tmp_path)[0].done == 2
        assert 0 < ledger.spent() < 1e4


def test_a_key_that_a_server_repeats_is_not_kept() -> None:
    """Not in what is said of a line, wherever the text is cut off."""
    (request,) = requests(["question"])
    for length in range(280, 300):
        error = {"code": "invalid_api_key", "message": f"{'x' * length}sk-canary-4711"}
        line = {"response": {"status_code": 401, "body": {"error": error}}}
        outcome = outcome_of(line, request, Terms(PRICES, "batch", "sk-canary-4711"))
        assert isinstance(outcome, Failure)
        assert "sk-" not in outcome.said


def test_a_store_that_others_keep_busy_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, as with any other write."""
    monkeypatch.setattr(register, "BUSY_SECONDS", 0.1)
    path = tmp_path / "build.sqlite"
    busy = pytest.raises(OutputFileError, match=f"^{path}: cannot be written: database is locked")
    with Store(path) as store, store.writing(), busy:
        register.Register(path)


def test_what_costs_nothing_is_written_when_the_purse_is_empty(tmp_path: Path) -> None:
    """An engine of one's own takes no money."""
    with ledger_in(tmp_path) as ledger:
        ledger.add(requests(["one", "two"]))
        free = files_endpoint(prices=Prices())
        assert filed(ledger, free, tmp_path, max_cost=0.0)[0].waiting == 2
