"""A first Aligner as the annotator: its corrections, as replies to the requests that are waiting for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from aligner.building.annotating import as_reply, exchange_in
from aligner.building.ledger import Ledger
from aligner.building.nouns import Failure, Reply, Request, Stage
from aligner.records import Correction, Exchange

_WINDOW = 64
"""requests that are leased at a time"""
_SURE = "gate"
"""the reason of the guard that keeps an answer which needs no change; the others say that a correction failed"""


def run(
    ledger: Ledger, stage: Stage, name: str, correct_many: Callable[[Sequence[Exchange]], Iterable[Correction]]
) -> int:
    """Put replies to all requests of that name until none is left, and say how many they were.

    Each is put as soon as it is made. If correcting raises, what was leased and not put is given back at once.
    """
    done = 0
    while leased := ledger.lease(stage, [name], _WINDOW):
        waiting = dict.fromkeys(request.key for request in leased)
        try:
            for key, outcome in _outcomes(leased, correct_many):
                ledger.put(key, outcome)
                del waiting[key]
                done += 1
        finally:
            if waiting:
                ledger.give_back(waiting)
    return done


def _outcomes(
    leased: Sequence[Request], correct_many: Callable[[Sequence[Exchange]], Iterable[Correction]]
) -> Iterator[tuple[str, Reply | Failure]]:
    asked: list[tuple[str, Exchange]] = []
    for request in leased:
        texts = exchange_in(request.messages)
        if texts is None:
            yield request.key, Failure("unusable", "the request does not hold a question and an answer as prompts do")
        else:
            asked.append((request.key, Exchange(*texts)))
    if asked:
        corrections = correct_many([exchange for _, exchange in asked])
        for (key, _), correction in zip(asked, corrections, strict=True):
            yield key, outcome_of(correction)


def outcome_of(correction: Correction) -> Reply | Failure:
    """A correction as a reply; one that could not be used is no verdict that the answer is good, but a failure."""
    reason = correction.kept_reason
    if reason not in {None, _SURE}:
        return Failure("context" if "context" in str(reason) else "unusable", str(reason))
    text = as_reply("edit" if correction.changed else "keep", correction.text)
    usage = correction.usage
    return Reply(text, "stop", usage.prompt_tokens, usage.completion_tokens, way="aligner")
