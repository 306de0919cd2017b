"""What the upstream says to the prompts of a round, as a file of rows that survives `kill -9`."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from aligner.bootstrapping.lineage import Place
from aligner.bootstrapping.nouns import Asked
from aligner.config.bootstrapping import Sampling
from aligner.correcting.rows import windows
from aligner.data.fields import as_asked, kind_of
from aligner.files import RowError, bad_rows_named, open_rows, read
from aligner.jobs import Tick
from aligner.models.batched import AHEAD, answers_of
from aligner.models.hf import CausalLM
from aligner.records import Question, SamplingParams


def answer(  # noqa: PLR0913  # each is of another part of a round
    lm: CausalLM, questions: Sequence[Question], how: Sampling, *, seed: int, batch: int, place: Place, tick: Tick
) -> None:
    """Write an answer to each question, the i-th drawn with `seed + i`; taken up again, it is the same file.

    Raises ModelError where the upstream's chat template refuses a question.
    """
    run = {"answers": digest_of(questions), **asdict(how), "seed": seed, "batch": batch}

    def rows_from(first: int) -> Iterator[Mapping[str, object]]:
        sampling = SamplingParams(**asdict(how), seed=seed + first)
        answers = answers_of(lm, questions[first:], sampling, batch=batch)
        for question, completion in zip(questions[first:], answers, strict=True):
            yield row_of(Asked(question, completion.text, completion.finish_reason))

    keep_rows(place, run, rows_from, window=AHEAD * batch, tick=tick)


def asked_in(path: Path) -> list[Asked]:
    """The rows of such a file; raises InputFileError for one that is none of its rows."""
    return [row.value for row in read(path, _asked, bad_rows=bad_rows_named("stop", path))]


def row_of(asked: Asked) -> Mapping[str, object]:
    """A prompt and its answer as a row; a conversation is a list of messages."""
    return {"question": _plain(asked.question), "answer": asked.answer, "finish": asked.finish}


def text_in(row: Mapping[str, object], name: str) -> str:
    """Text in a field, which may be empty; raises RowError where there is none."""
    value = row.get(name)
    if not isinstance(value, str):
        raise RowError(f'"{name}" is {kind_of(value)}, not text')
    return value


def digest_of(value: Iterable[object]) -> str:
    """What tells whether some rows of work are still the same."""
    found = hashlib.sha256()
    for item in value:
        found.update(repr(item).encode())
    return found.hexdigest()


def keep_rows(
    place: Place,
    run: Mapping[str, object],
    rows_from: Callable[[int], Iterator[Mapping[str, object]]],
    *,
    window: int,
    tick: Tick,
) -> None:
    """Write the rows that come from the first on, so many at a time; taken up again, go on where it was interrupted.

    `rows_from` is asked for the rows behind a whole number of windows, so that rows of one window always share their
    passes: those of windows of another size lie beside, and are not gone on with. `run` says what work this is; the
    rows of another are refused (MisuseError).
    """
    unfinished = place.scratch / f"{place.path.stem}-{window}{place.path.suffix}"
    with open_rows(unfinished, run) as writer:
        tick(writer.done)
        first = writer.done - writer.done % window
        for rows in windows(rows_from(first), window):
            new = rows[writer.done - first :]
            writer.append(new)
            first += len(rows)
            tick(len(new))
        writer.finish()
    unfinished.replace(place.path)


def _asked(row: Mapping[str, object]) -> Asked:
    return Asked(as_asked(row.get("question"), "question"), text_in(row, "answer"), text_in(row, "finish"))


def _plain(question: Question) -> object:
    """A question as JSON has it."""
    if isinstance(question, str):
        return question
    return [{"role": message.role, "content": message.content} for message in question]
