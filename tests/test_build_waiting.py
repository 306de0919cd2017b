"""Builds that wait: for batches, for files of an offline engine, for people; the same command goes on."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from batch_server import KEY, Behaviour, serving
from built import Opened, adds_up, manifest_of, upstreams, world_config

from aligner.build import build
from aligner.building.annotating import as_reply
from aligner.building.nouns import Reply
from aligner.config import BuildAnnotator, BuildConfig, BuildUpstream
from aligner.errors import MisuseError


def keep(folder: Path) -> BuildAnnotator:
    """An annotator that keeps everything."""
    path = folder / "keep.json"
    path.write_text('[{"pattern": "(?s)^.*$", "replace": "{\\"verdict\\": \\"keep\\", \\"reasons\\": []}"}]')
    return BuildAnnotator(name="keep", model=f"rules:{path}")


def left_of(config: BuildConfig) -> list[int]:
    """What each step of the funnel left."""
    manifest = manifest_of(config.out)
    adds_up(manifest["funnel"])
    return [step["left"] for step in manifest["funnel"]]


def test_batches_are_collected_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What was sent is told, and nothing is sent twice."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Behaviour(seconds=0.5, shuffle=1)) as server:
        model = BuildUpstream(name="batched", model=f"openai:gpt-x@{server.url}", calling="batch", price_in=1.0)
        config = world_config(tmp_path, 20, upstreams=(model,), annotators=(keep(tmp_path),), yes=True)
        runs = 0
        while not (config.out / "dataset").exists():
            build(config)
            runs += 1
            assert runs < 100
            time.sleep(0.1)
        assert "20 calls wait for batches of batched" in capfd.readouterr().err
        assert runs > 1
        assert sum(server.paid.values()) == 20
    assert left_of(config)[:2] == [20, 20]


def test_what_is_in_a_batch_is_not_asked_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was paid for: the way of calling stays until it is collected."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Behaviour(seconds=60.0)) as server:
        model = BuildUpstream(name="batched", model=f"openai:gpt-x@{server.url}", calling="batch")
        config = world_config(tmp_path, 5, upstreams=(model,), annotators=(keep(tmp_path),))
        build(config)
        with pytest.raises(MisuseError, match="5 calls are in batches"):
            build(replace(config, upstreams=(replace(model, calling="live"),)))
        with pytest.raises(MisuseError, match="5 calls are in batches"):
            build(replace(config, shards=2))


def test_files_are_written_for_an_offline_engine_and_collected(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its output beside its input, line by line."""
    model = BuildUpstream(name="offline", model="openai:tiny", calling="files")
    config = world_config(tmp_path, 12, upstreams=(model,), annotators=(keep(tmp_path),))
    build(config)
    assert "12 calls wait for files of offline" in capfd.readouterr().err
    (path,) = [path for path in (config.out / "batches").glob("offline-*.jsonl") if ".out." not in path.name]
    lines = [engine(orjson.loads(line)) for line in path.read_bytes().splitlines()]
    path.with_name(path.name.replace(".jsonl", ".out.jsonl")).write_bytes(b"".join(lines))
    build(config)
    assert left_of(config)[:2] == [12, 12]


def engine(asked: dict[str, Any]) -> bytes:
    """A line of an engine's output."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes, I think so."}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}
    return orjson.dumps({"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}}) + b"\n"


def test_people_are_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Their requests are in the ledger for the page; what they said is collected."""
    people = BuildAnnotator(name="people", model="human:")
    config = world_config(tmp_path, 6, upstreams=upstreams("careless"), annotators=(people,), pilot=2)
    build(config)
    assert "6 calls wait for people, on the page of aligner build review" in capfd.readouterr().err
    with Opened(config.out) as opened:
        for request in list(opened.ledger.requests("corrections", model="people", state="todo")):
            opened.ledger.put(request.key, Reply(as_reply("edit", "I do not know that."), way="human"))
    build(config)
    assert left_of(config)[:3] == [6, 6, 6]
    assert manifest_of(config.out)["annotators"].keys() == {"people"}
