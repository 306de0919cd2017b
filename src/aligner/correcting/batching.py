"""Continuous batching: one thread owns the model, lets new works in while others are decoded, and reads ahead."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Self

from aligner.correcting.lm_writer import LMWriter, StepText, passed
from aligner.correcting.reading import Reading
from aligner.correcting.work import Work, why
from aligner.decoding.decoder import Beginning, Decoder, Request, Step
from aligner.records import Completion, Usage

_SECONDS_FOR_A_PASS = 10.0


class Batcher:
    """The back end of a language model in this process."""

    def __init__(self, writer: LMWriter, rows: int, broken: Callable[[str], None]) -> None:
        self._writer = writer
        self._rows = rows
        self._broken = broken
        self._decoder = writer.start(rows)
        self._changed = threading.Condition()
        """guards all that follows"""
        self._waiting: deque[Work] = deque()
        self._readings: dict[Work, Reading] = {}
        self._due: deque[Work] = deque()
        """works of whose prompts enough is known for a pass"""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="aligner-decoding", daemon=True)
        self._thread.start()

    def open(self, work: Work) -> None:
        """Its question can be read."""
        with self._changed:
            self._readings[work] = Reading(work.question, work.instruction)
            self._line_up(work)

    def append(self, work: Work, text: str) -> None:
        """So can what has come of its answer."""
        with self._changed:
            if work in self._readings:
                self._readings[work].add(text)
                self._line_up(work)

    def finish(self, work: Work) -> None:
        """It enters as soon as there is room."""
        with self._changed:
            self._waiting.append(work)
            self._changed.notify()

    def drop(self, work: Work) -> None:
        """A waiting one leaves at once, and one that is decoded after the pass that is going on."""
        with self._changed, suppress(ValueError):
            self._readings.pop(work, None)
            self._waiting.remove(work)

    def close(self) -> None:
        """Ends after the pass that is going on."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_SECONDS_FOR_A_PASS)

    def _line_up(self, work: Work) -> None:
        reading = self._readings[work]
        if reading.worth_a_look and not reading.due:
            reading.due = True
            self._due.append(work)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while self._has_more():
                if self._waiting:
                    self._decode()
                else:
                    self._read_ahead()
        # In this thread nobody would hear of it.
        except Exception as error:  # noqa: BLE001
            self._broken(why(error)[1])

    def _has_more(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting or self._due)
            return not self._closed

    def _decode(self) -> None:
        """Decode what waits, and what comes meanwhile; works that fail together are tried one by one."""
        together = _Round(self._admit)
        try:
            for step in self._decoder.decode(together):
                together.take(step)
                if self._closed:
                    return
        except Exception as error:  # noqa: BLE001  # whose it is will show
            line = "%d answers failed together (%s), and are decoded one by one"
            logging.getLogger("aligner").warning(line, len(together.rows), why(error)[1])
        left = [(row.work, "".join(row.told)) for row in together.rows.values()]
        if left:
            # Memory may be what is lacking.
            together.rows.clear()
            self._forget_what_was_read()
        for work, told in left:
            self._decode_alone(work, told)

    def _decode_alone(self, work: Work, told: str) -> None:
        try:
            if (row := self._row(work, None, told=told)) is not None:
                for step in self._decoder.decode([row.request]):
                    row.take(step)
                    if self._closed:
                        return
        # One work cannot end the others.
        except Exception as error:  # noqa: BLE001
            work.fail(*why(error))

    def _forget_what_was_read(self) -> None:
        with self._changed:
            for reading in self._readings.values():
                reading.beginning = Beginning()

    def _admit(self) -> "_Row | None":
        """The next waiting work that can be decoded."""
        while (found := self._next()) is not None:
            work, beginning = found
            try:
                if (row := self._row(work, beginning)) is not None:
                    return row
            except Exception as error:  # noqa: BLE001  # as above
                work.fail(*why(error))
        return None

    def _next(self) -> tuple[Work, Beginning | None] | None:
        with self._changed:
            if not self._waiting:
                return None
            work = self._waiting.popleft()
            reading = self._readings.pop(work, None)
            return work, reading and reading.beginning

    def _row(self, work: Work, beginning: Beginning | None, *, told: str = "") -> "_Row | None":
        """What is decoded for a work; a work that does not fit the context has ended with that."""
        order = work.begin()
        prompt = self._writer.prompt(order.exchange)
        if not self._writer.room(prompt, order.sampling):
            work.end(Completion("", "context", Usage(len(prompt))))
            return None
        asked = order.exchange, order.sampling
        request = self._writer.request(prompt, *asked, doubt=order.doubt, gate=order.gate)
        ends = request.stops

        def stops(token: int) -> bool:
            return work.cancelled or (ends is not None and ends(token))

        request = replace(request, stops=stops, read=beginning)
        return _Row(self._writer, work, request, told=told)

    def _read_ahead(self) -> None:
        """One pass over the beginning of a prompt, while no answer waits to be corrected."""
        with self._changed:
            work = self._due.popleft()
            reading = self._readings.get(work)
            if reading is None:
                return
            reading.due = False
            answer = reading.look()
            others = sum(bool(other.beginning.tokens) for other in self._readings.values() if other is not reading)
        # More than that many could not be decoded together either, and memory is for those.
        if others >= self._rows or not isinstance(self._decoder, Decoder):
            return
        try:
            reading.read(answer, self._decoder, self._writer.encoder, context=self._writer.context)
        # It was not asked for; if it fails again when it is, somebody is told.
        except Exception:  # noqa: BLE001
            reading.beginning = Beginning()
        with self._changed:
            if work in self._readings:
                self._line_up(work)


class _Row:
    """A work while it is decoded."""

    def __init__(self, writer: LMWriter, work: Work, request: Request, *, told: str) -> None:
        self.work = work
        self.request = request
        self.told: list[str] = [told]
        """the pieces that were handed on"""
        self._again = told
        """what was handed on before it was decoded once more, as far as it has not come again"""
        self._writer = writer
        self._order = work.begin()
        new = len(request.prompt) - (request.read.cut(request.prompt[:-1]) if request.read else 0)
        self._reading = new / (new + len(request.draft.ids))
        """the prompt's share of the tokens in the first pass, which reads the rest of it and judges the whole draft"""
        self._text = StepText(writer.codec, self._order.sampling.stop)

    def take(self, step: Step) -> None:
        """Hand on what a step gave."""
        self.work.look(self._reading)
        if self.work.cancelled:
            return
        if not passed(self.request, step):
            self._give(self._text.add(step))
        if step.end is not None:
            order = self._order
            self.work.end(self._writer.completion(self.request.prompt, order.exchange, step.end, order.sampling))

    def _give(self, piece: str) -> None:
        known = self._again[: len(piece)]
        if not piece.startswith(known):
            raise ValueError("decoded once more, it has become another text")
        self._again = self._again[len(known) :]
        if new := piece[len(known) :]:
            self.told.append(new)
            self.work.give(new)


class _Round:
    """One run of the decoder: the rows in it, and the iterator that lets more in for as long as some wait."""

    def __init__(self, admit: Callable[[], _Row | None]) -> None:
        self.rows: dict[int, _Row] = {}
        self._admit = admit
        self._count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Request:
        """The next request; after none there may be one again, when the decoder asks anew."""
        row = self._admit()
        if row is None:
            raise StopIteration
        self.rows[self._count] = row
        self._count += 1
        return row.request

    def take(self, step: Step) -> None:
        """Hand on what a step gave."""
        self.rows[step.number].take(step)
        if step.end is not None:
            del self.rows[step.number]
