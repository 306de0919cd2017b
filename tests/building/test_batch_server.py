"""The laws of the test server of batches: the official client finds all that it expects of a Batch API."""

import io
import json
from typing import Any

import openai
import pytest
from batch_server import KEY, Behaviour, serving
from openai.types.chat import ChatCompletion


def line(name: str, content: str = "Who?") -> dict[str, Any]:
    """A line of an input file."""
    body = {"model": "gpt-x", "messages": [{"role": "user", "content": content}], "max_tokens": 8}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(*lines: Any) -> io.BytesIO:
    """An input file."""
    file = io.BytesIO("".join(json.dumps(value) + "\n" for value in lines).encode())
    file.name = "requests.jsonl"
    return file


def test_the_official_client_can_live_through_a_whole_batch() -> None:
    """Upload, create, look, list, fetch and delete give what the client's models name, strictly parsed."""
    refuse = Behaviour(fate=lambda asked: "refuse" if asked["custom_id"] == "b" else "reply", shuffle=1)
    with (
        serving(refuse) as server,
        openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, _strict_response_validation=True) as client,
    ):
        uploaded = client.files.create(file=jsonl(line("a"), line("b"), line("c")), purpose="batch")
        assert (uploaded.purpose, uploaded.filename) == ("batch", "requests.jsonl")
        made = client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"token": "one"},
        )
        assert made.status == "validating"
        ended = client.batches.retrieve(made.id)
        assert (ended.status, ended.model, ended.metadata) == ("completed", "gpt-x", {"token": "one"})
        assert ended.request_counts is not None
        assert ended.usage is not None
        assert ended.request_counts.model_dump() == {"completed": 2, "failed": 1, "total": 3}
        assert ended.usage.total_tokens == 8
        assert (
            ended.created_at <= (ended.in_progress_at or 0) <= (ended.finalizing_at or 0) <= (ended.completed_at or 0)
        )
        assert ended.output_file_id is not None
        assert ended.error_file_id is not None
        good = [json.loads(row) for row in client.files.content(ended.output_file_id).text.splitlines()]
        bad = [json.loads(row) for row in client.files.content(ended.error_file_id).text.splitlines()]
        assert sorted(row["custom_id"] for row in good) == ["a", "c"]
        assert [(row["custom_id"], row["response"]["status_code"]) for row in bad] == [("b", 400)]
        parsed = ChatCompletion.model_validate(good[0]["response"]["body"])
        assert parsed.choices[0].message.content == "Reply to Who?"
        assert set(good[0]) == {"id", "custom_id", "response", "error"}
        assert client.files.retrieve(ended.output_file_id).purpose == "batch_output"
        assert client.files.delete(ended.output_file_id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(ended.output_file_id)


def test_its_lists_are_walked_by_the_official_client() -> None:
    """Pages of any size give every batch once, the newest first."""
    with serving() as server, openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        uploaded = client.files.create(file=jsonl(line("a")), purpose="batch")
        made = [
            client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
            ).id
            for _ in range(5)
        ]
        assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
        assert [file.id for file in client.files.list(purpose="batch")] == [uploaded.id]


def test_it_says_which_lines_are_wrong_and_who_may_not_in() -> None:
    """A file that breaks the rules fails with its lines, a wrong key is not let in, a batch that ended stays."""
    with serving(Behaviour(requests=3)) as server:
        client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
        uploaded = client.files.create(file=jsonl(line("a"), line("a"), line("b") | {"url": "/v1/x"}), purpose="batch")
        made = client.batches.create(
            input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        failed = client.batches.retrieve(made.id)
        assert failed.status == "failed"
        assert failed.errors is not None
        assert [(error.code, error.line) for error in failed.errors.data or []] == [
            ("duplicate_custom_id", 2),
            ("invalid_url", 3),
        ]
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(made.id)
        with pytest.raises(openai.BadRequestError):
            client.batches.create(input_file_id="file-0", endpoint="/v1/chat/completions", completion_window="24h")
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=server.url, api_key="sk-other", max_retries=0).batches.list()


def test_a_batch_can_be_cancelled_and_expire() -> None:
    """What was executed is in the output file, the rest in the error file under the published codes."""
    half = Behaviour(fate=lambda asked: "expire" if asked["custom_id"] > "b" else "reply")
    with serving(half) as server, openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        uploaded = client.files.create(file=jsonl(*map(line, "abcd")), purpose="batch")
        for act, status, code in (("look", "expired", "batch_expired"), ("cancel", "cancelled", "batch_cancelled")):
            half.seconds = 0.0 if act == "look" else 0.2
            made = client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            if act == "cancel":
                assert client.batches.cancel(made.id).status == "cancelling"
                half.seconds = 0.0
            ended = client.batches.retrieve(made.id)
            assert ended.status == status
            assert ended.error_file_id is not None
            bad = [json.loads(row) for row in client.files.content(ended.error_file_id).text.splitlines()]
            assert [(row["custom_id"], row["response"], row["error"]["code"]) for row in bad] == [
                ("c", None, code),
                ("d", None, code),
            ]
