"""Rows of the correction log for tests."""

from dataclasses import replace
from typing import Any

from aligner.records import Message
from aligner.serving.logged import Logged

ROW = Logged(
    id="0192f0c1-0000-7000-8000-000000000000",
    created=1_764_000_000.25,
    conversation="talk",
    key_hash="5e884898da28",
    route="chat",
    mode="correct",
    upstream="local",
    model="small",
    aligner="demo@1",
    messages=(Message("system", "Be kind."), Message("user", "What is 1 + 1?")),
    question="What is 1 + 1?",
    answer="It is 3.",
    correction="It is 2.",
    changed=True,
    edit_share=0.125,
    confidence=0.25,
    skipped=None,
    bypass=None,
    kept_reason=None,
    outcome="sent",
    seconds={"queue": 0.001, "read": 0.5},
    usage={"prompt_tokens": 12, "completion_tokens": 4},
)


def row(number: int, **given: Any) -> Logged:
    """A row with an id and a time of its own; later numbers are later."""
    return replace(ROW, id=f"0192f0c1-0000-7000-8000-{number:012x}", created=ROW.created + number, **given)
