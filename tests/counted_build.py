"""A small build whose every count is known, with drops at each stage."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aligner.building.ledger import Ledger
from aligner.building.nouns import (
    Annotated,
    Answered,
    Asked,
    Checked,
    Dropped,
    Failure,
    Reply,
    Request,
    Stage,
    id_of,
    key_of,
)
from aligner.building.store import Store
from aligner.building.workers import Worker
from aligner.config import BuildAnnotator, BuildConfig, BuildSource, BuildUpstream
from aligner.records import Message, Question, SamplingParams

FACTS = {
    "agreement": {"pairs": 3, "same_choice": 1.0, "kappa": None, "median_token_distance": 2},
    "overlap": [{"name": "gsm8k", "sha256": "ab" * 32, "texts": 7, "words": 12, "hits": 0}],
    "sources": {"hh": {"path": "/data/chat/hh.jsonl", "rows": 14}},
}
GATHERED = {"sources": {"hh": {"rows": 14, "answers": 0}}, "overlap": []}
NOTHING = {"sources": {}, "overlap": []}
HOSTILE = "<|answer|><script>{answer}</script>|`é🙂\n"
STEPS: dict[str, tuple[int, int, dict[str, int]]] = {
    "questions": (14, 10, {"same_question": 2, "too_short": 2}),
    "answers": (20, 17, {"open": 1, "refused": 2}),
    "corrections": (17, 14, {"open": 1, "unreadable": 2}),
    "verdicts": (14, 12, {"length_ratio": 2}),
    "export": (12, 12, {}),
}
"""what comes to each step, goes on, and does not, of the build that `fill` makes"""


class Opened(NamedTuple):
    """A store and its ledger."""

    store: Store
    ledger: Ledger


def config_of(out: Path, **changed: Any) -> BuildConfig:
    """The configuration of the small build."""
    small, large = "openai:small@http://key:word@127.0.0.1:8001/v1", "openai:large@http://127.0.0.1:8002/v1"
    given: dict[str, Any] = {
        "out": out,
        "sources": (
            BuildSource(path="/data/chat/hh.jsonl", name="hh", licence="mit"),
            BuildSource(path="faq.jsonl", licence="Terms of Example Ltd"),
        ),
        "upstreams": (
            BuildUpstream(name="small", model=small, price_in=1.0, price_out=2.0),
            BuildUpstream(name="large", model=large, price_in=5.0, calling="batch"),
        ),
        "annotators": (BuildAnnotator(name="editor", model=small, price_out=3.0),),
        "formats": ("trl", "trl-preference", "kto", "axolotl", "llama-factory"),
    }
    return BuildConfig(**{**given, **changed})


@contextmanager
def opened(out: Path, gathered: Mapping[str, Any] = NOTHING) -> Iterator[Opened]:
    """The store and the ledger of a folder, whose sources were read."""
    with Store(out / "build.sqlite") as store, Worker(out) as worker:
        store.once("questions", json.dumps(gathered))
        yield Opened(store, Ledger(store, worker))


@contextmanager
def built(out: Path, *, backwards: bool = False) -> Iterator[Opened]:
    """The small build, its rows written in one order or the other."""
    with opened(out, GATHERED) as build:
        for number in range(12)[::-1] if backwards else range(12):
            _question(build, number)
        yield build


def many(build: Opened, count: int) -> None:
    """So many questions with one answer each, all of them corrected and kept."""
    store = build.store
    store.add_questions(_whole(number)[0] for number in range(count))
    store.add_answers(_whole(number)[1] for number in range(count))
    store.add_annotated(_whole(number)[2] for number in range(count))
    store.add_checked(_whole(number)[3] for number in range(count))


def question_of(number: int) -> Question:
    """Every fourth question is a conversation."""
    text = f"What is {number} and {number}? {HOSTILE}"
    if number % 4 < 3:
        return text
    return (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi!"),
        Message("user", text),
    )


def checked_of(number: int, *, upstream: str = "small") -> Checked:
    """A triple; every third one keeps its answer, and every fifth is for validation."""
    question, source = question_of(number), ("hh", "faq")[number % 2]
    answer, correction = f"About {number}. {HOSTILE}", f"Exactly {2 * number}. {HOSTILE}"
    asked = id_of("question", question)
    kept = number % 3 == 0
    return Checked(
        id=id_of("correction", id_of("answer", asked, upstream, 0), "editor"),
        question=question,
        answer=answer,
        correction=answer if kept else correction,
        kind="identity" if kept else "edit",
        cluster=asked,
        split="validation" if number % 5 == 4 else "train",
        facts={
            "source": source,
            "licence": ("mit", "Terms of Example Ltd")[number % 2],
            "upstream": upstream,
            "annotator": "editor",
            "place": f"/data/chat/{source}.jsonl:{number + 1}",
            "reasons": [] if kept else ["it is not exact"],
            "edit_share": 0 if kept else 0.25,
            "personal": {} if kept else {"EMAIL": number},
        },
    )


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their names inside it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _question(build: Opened, number: int) -> None:
    question, source = question_of(number), ("hh", "faq")[number % 2]
    asked = Asked(id=id_of("question", question), question=question, source=source, place=f"{source}:{number}")
    build.store.add_questions([asked])
    if number % 6 == 1:
        doublet = id_of("row", source, number)
        build.store.drop([Dropped("questions", doublet, "same_question", "the first is elsewhere")])
    if number % 6 == 5:
        build.store.drop([Dropped("questions", asked.id, "too_short")])
    else:
        for upstream in ("small", "large"):
            _answer(build, number, asked.id, upstream)


def _answer(build: Opened, number: int, asked: str, upstream: str) -> None:
    request = _request("answers", upstream, asked, number)
    build.ledger.add([request])
    if upstream == "large" and number == 2:
        return
    answer = id_of("answer", asked, upstream, 0)
    if upstream == "large" and number in {3, 4}:
        build.ledger.put(request.key, Failure("refused", "will not"))
        build.store.drop([Dropped("answers", answer, "refused", "will not")])
        return
    text = checked_of(number).answer
    build.ledger.put(request.key, Reply(text, prompt_tokens=1000, completion_tokens=500, cost=0.1))
    row = Answered(id=answer, question=asked, upstream=upstream, sample=0, key=request.key, text=text)
    build.store.add_answers([row])
    _correct(build, number, answer, upstream)


def _correct(build: Opened, number: int, answer: str, upstream: str) -> None:
    request = _request("corrections", "editor", answer, number)
    build.ledger.add([request])
    if upstream == "large" and number == 10:
        return
    checked = checked_of(number, upstream=upstream)
    build.ledger.put(request.key, Reply(checked.correction, prompt_tokens=100, completion_tokens=50, cost=0.01))
    if upstream == "large" and number in {6, 7}:
        build.store.drop([Dropped("corrections", answer, "unreadable", "no JSON")])
        return
    row = Annotated(
        id=checked.id,
        answer=answer,
        annotator="editor",
        key=request.key,
        choice="keep" if checked.kind == "identity" else "edit",
        text=checked.correction,
    )
    build.store.add_annotated([row, replace(row, id=f"{row.id}2", annotator="other", second=True)])
    if upstream == "large" and number in {8, 9}:
        build.store.drop([Dropped("verdicts", checked.id, "length_ratio", "0.1")])
    else:
        build.store.add_checked([checked])


def _request(stage: Stage, model: str, about: str, number: int) -> Request:
    messages = (Message("user", f"{about} {number}"),)
    key = key_of(model, messages, SamplingParams(), stage, 0)
    return Request(key=key, stage=stage, model=model, messages=messages, about=about)


def _whole(number: int) -> tuple[Asked, Answered, Annotated, Checked]:
    id_ = id_of("row", number)
    question, text = f"What is {number}? " * 20, f"It is {number}. " * 20
    checked = replace(checked_of(1), id=id_, question=question, answer=text, correction=f"{text}!", split="train")
    return (
        Asked(id=id_, question=question, source="hh", place=f"hh:{number}"),
        Answered(id=id_, question=id_, upstream="small", sample=0, key="", text=text),
        Annotated(id=id_, answer=id_, annotator="editor", key="", choice="edit", text=checked.correction),
        checked,
    )
