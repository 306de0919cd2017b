"""What the correction log is told: of a request a row for each choice of its answer, and what people say of one."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args

from aligner.records import Message, Question, as_messages
from aligner.serving.logged import Feedback, Logged, Outcome, Verdict
from aligner.serving.served import Outcome as Corrected
from aligner.serving.served import Served
from aligner.serving.upstream import Headers
from aligner.serving.wire import WireError

MOST_JUDGED = 1_000
"""corrections at a time"""


def rows_of(
    served: Served, headers: Headers, *, owner: str, upstream: str, aligner: str, outcome: Outcome
) -> Iterator[Logged]:
    """A row for each choice; the first has the id of the request, the others that and their number."""
    for corrected in served.outcomes:
        question = corrected.question or ""
        messages = as_messages(question) if question else ()
        yield Logged(
            id=served.id if corrected.index == 0 else f"{served.id}.{corrected.index}",
            created=time.time(),
            conversation=conversation_of(served.asked.payload, question, headers),
            key_hash=owner,
            route=served.asked.route,
            mode=served.mode,
            upstream=upstream,
            model=str(served.asked.payload.get("model") or ""),
            aligner=aligner,
            messages=messages or None,
            question=messages[-1].content if messages else "",
            answer=corrected.answer,
            correction=corrected.text,
            changed=corrected.changed,
            edit_share=corrected.edit_share,
            confidence=corrected.finished.confidence if corrected.finished else None,
            skipped=corrected.skipped,
            bypass=corrected.bypass,
            kept_reason=corrected.finished.kept_reason if corrected.finished else None,
            outcome=outcome,
            seconds={
                "upstream": served.upstream_seconds,
                "correct": served.correct_seconds,
                **(corrected.finished.seconds if corrected.finished else {}),
            },
            usage=usage_of(corrected),
        )


def conversation_of(payload: Mapping[str, Any], question: Question, headers: Headers) -> str:
    """What names a conversation: a header, the request's metadata, or a hash of key, system and first user message."""
    metadata: object = payload.get("metadata")
    named = dict(headers).get("x-aligner-conversation") or (
        cast("Mapping[str, Any]", metadata).get("conversation_id") if isinstance(metadata, dict) else None
    )
    if isinstance(named, str) and named:
        return named
    messages = as_messages(question) if question else ()
    return _hash(
        "\0".join([dict(headers).get("authorization", ""), *(_first(messages, r) for r in ("system", "user"))])
    )


def key_hash(headers: Headers) -> str:
    """What the log knows of a client's key."""
    key = dict(headers).get("authorization", "")
    return _hash(key) if key else ""


def feedback_of(given: Mapping[str, Any], *, reviewer: str | None, batch: str) -> tuple[Feedback, ...]:
    """The feedback in a body, on one correction or the same on many; raises WireError."""
    verdict, text = cast("Verdict", given.get("verdict")), given.get("text")
    tags = cast("list[object]", given.get("tags") or [])
    texts = {name: given.get(name) for name in ("text", "comment", "user")}
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise WireError(400, f'"{name}" is no text', "wrong_type", param=name)
    if verdict not in get_args(Verdict):
        raise WireError(400, f'"verdict" is none of {", ".join(get_args(Verdict))}', "wrong_value", param="verdict")
    if (verdict == "edit") != isinstance(text, str):
        raise WireError(400, 'an "edit" has a "text", and no other verdict has', "wrong_value", param="text")
    if not isinstance(given.get("tags") or [], list) or not all(isinstance(tag, str) for tag in tags):
        raise WireError(400, '"tags" is no list of texts', "wrong_type", param="tags")
    told: dict[str, Any] = {**texts, "tags": tuple(cast("list[str]", tags)), "verdict": verdict}
    now = time.time()
    return tuple(Feedback(id=one, reviewer=reviewer, batch=batch, created=now, **told) for one in _judged(given))


def _judged(given: Mapping[str, Any]) -> list[str]:
    """The ids of the corrections that are judged, each once."""
    if ("id" in given) == ("ids" in given):
        raise WireError(400, 'neither "id" nor "ids", or both', "wrong_value", param="id")
    name, kind = ("ids", "list of texts") if "ids" in given else ("id", "text")
    ids: object = given["ids"] if "ids" in given else [given["id"]]
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in cast("list[object]", ids)):
        raise WireError(400, f'"{name}" is no {kind}', "wrong_type", param=name)
    ids = cast("list[str]", ids)
    if not 1 <= len(ids) <= MOST_JUDGED:
        raise WireError(400, f'"ids" has none, or more than {MOST_JUDGED:,}', "wrong_value", param="ids")
    if given.get("verdict") == "edit" and len(ids) > 1:
        raise WireError(400, 'an "edit" is for one correction', "wrong_value", param="ids")
    return list(dict.fromkeys(ids))


def usage_of(corrected: Corrected) -> dict[str, int]:
    """The Aligner's tokens and passes, where it came to its end."""
    if corrected.finished is None:
        return {}
    usage = corrected.finished.usage
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "passes": usage.passes}


def _first(messages: tuple[Message, ...], role: str) -> str:
    return next((message.content for message in messages if message.role == role), "")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
