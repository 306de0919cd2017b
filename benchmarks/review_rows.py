"""A log of a busy quarter for the review's benchmark: made up, with the sizes and the frequencies of real ones."""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from uuid import UUID

from aligner.records import Message
from aligner.serving.logged import Feedback, Logged, Verdict

NOW = 1_790_000_000.0
DAYS = 90
RARE, FREQUENT, ONLY_KEPT = "kryptonite", "w7", "unaltered"
"""words: in some rows of a million, in most, and in a tenth of those that were not changed and in no other"""
_VOCABULARY = [f"w{number}" if number % 3 else f"word{number}" for number in range(40_000)]
_CUMULATED = list(accumulate(1 / (rank + 3) for rank in range(len(_VOCABULARY))))
_PARTS = 4_000
"""passages that texts are put together from"""
_REASONS = ("tool_calls", "refusal", "truncated", "json", "too_long")
_CAUSES = ("timeout", "queue_full", "engine_down")
_VERDICTS: Sequence[Verdict] = ("accept", "reject", "edit", "both_bad")


def rows(count: int) -> Iterator[Logged]:
    """So many rows, the oldest first."""
    draw = random.Random(1)
    passages = [_passage(draw) for _ in range(_PARTS)]
    for number in range(count):
        yield _row(draw, passages, number, count)


def _passage(draw: random.Random) -> str:
    return " ".join(draw.choices(_VOCABULARY, cum_weights=_CUMULATED, k=draw.randint(12, 28)))


def _row(draw: random.Random, passages: Sequence[str], number: int, count: int) -> Logged:
    upstream = draw.choices(("https://a/v1", "https://b/v1", "https://c/v1"), (80, 19, 1))[0]
    model = f"{upstream[8]}-{draw.choices(('large', 'small', 'mini', 'test'), (60, 30, 9.9, 0.1))[0]}"
    skipped = draw.choice(_REASONS) if draw.random() < 0.06 else None
    bypass = draw.choice(_CAUSES) if not skipped and draw.random() < 0.005 else None
    changed = not skipped and not bypass and draw.random() < 0.3
    question, answer = draw.choice(passages), "\n\n".join(draw.choices(passages, k=1 + int(draw.expovariate(0.4))))
    if number % (count // 8) == 7:
        question += f" {RARE}"
    if not changed and draw.random() < 0.1:
        answer += f" {ONLY_KEPT}"
    return Logged(
        id=str(UUID(int=(number << 80) | draw.getrandbits(62) | 7 << 76 | 2 << 62)),
        created=NOW + (number / count - 1) * DAYS * 86_400,
        conversation=f"c{number // 3}",
        key_hash=f"k{number % 50}",
        route="chat",
        mode="shadow" if number < count // 4 else draw.choices(("correct", "gate"), (9, 1))[0],
        upstream=upstream,
        model=model,
        aligner=f"demo@{4 * number // count}",
        messages=(Message("user", question),),
        question=question,
        answer=answer,
        correction=answer.replace("word", "better word", 2) + " indeed" if changed else answer,
        changed=changed,
        edit_share=draw.betavariate(1, 6) if changed else 0.0,
        confidence=None if skipped or bypass else draw.betavariate(1, 2 if changed else 0.2),
        skipped=skipped,
        bypass=bypass,
        kept_reason="gate" if not changed and draw.random() < 0.02 else None,
        outcome="sent",
        seconds={"upstream": 1.25, "correct": 0.21, "read": 0.1, "edit": 0.1},
        usage={"prompt_tokens": 200, "completion_tokens": 120, "passes": 3},
    )


def feedback(ids: Sequence[str]) -> list[list[Feedback]]:
    """What three people said of some corrections, in portions; they mostly agree."""
    draw, said = random.Random(2), list[Feedback]()
    for id_ in ids:
        first = draw.choice(_VERDICTS)
        people = draw.sample(("ann", "bob", "cy"), draw.choices((1, 2, 3), (70, 25, 5))[0])
        for reviewer in people:
            verdict = first if draw.random() < 0.9 else draw.choice(_VERDICTS)
            text = "better" if verdict == "edit" else None
            said.append(Feedback(id=id_, verdict=verdict, text=text, reviewer=reviewer, batch=id_, created=NOW))
    return [said[start : start + 1000] for start in range(0, len(said), 1000)]
