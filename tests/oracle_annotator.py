"""An annotator that knows the oracle of the closed world, as an OpenAI-compatible server that bills.

`python tests/oracle_annotator.py --fenced 0.3 --broken 0.1`: so many of its replies are wrapped in Markdown fences, and
so many first ones cannot be read. The same request always gets the same reply.
"""

import argparse
import hashlib
import json

from profile_server import BillingServer, serve
from rapidfuzz import fuzz

from aligner.building.annotating import as_reply, exchange_in
from aligner.errors import ModelError
from aligner.records import Message, SamplingParams
from aligner.world.families import CLOSERS, OPENERS
from aligner.world.flaws import Draft
from aligner.world.oracle import mark
from aligner.world.questions import Asked, read_question

_ALIKE = 60.0
"""per cent of likeness below which the whole answer was something else, and the first good form takes its place"""


def corrected(question: str, answer: str) -> str:
    """The answer itself where it is good, or else the good answer that takes the fewest edits.

    Raises ModelError for a question that the world does not know.
    """
    asked = read_question(question)
    if asked is None:
        raise ModelError(f'the closed world has no such question: "{question:.80}"')
    if mark(asked, answer).good:
        return answer
    opener = next((text for text in OPENERS if text and answer.startswith(f"{text} ")), "")
    closer = next((text for text in CLOSERS if text and answer.endswith(f" {text}")), "")
    drafts = [Draft(opener, form, closer, asked.values).text for form in asked.family.answers]
    best = max(drafts, key=lambda text: fuzz.ratio(text, answer))
    return best if fuzz.ratio(best, answer) >= _ALIKE else drafts[0]


def lacks(asked: Asked, answer: str) -> tuple[str, ...]:
    """What an answer is not: the annotator's reasons."""
    return tuple(f"not {name}" for name, holds in mark(asked, answer)._asdict().items() if not holds)


def oracle_server(fenced: float = 0.0, broken: float = 0.0, pause: float = 0.0) -> BillingServer:
    """The annotator; the shares are of its replies."""

    async def say(messages: list[Message], _: SamplingParams) -> str:
        exchange = exchange_in(tuple(messages))
        if exchange is None or not isinstance(exchange[0], str):
            raise ModelError("this is no request for a correction")
        question, answer = str(exchange[0]), exchange[1]
        text = corrected(question, answer)
        asked = read_question(question)
        reply = as_reply("keep" if text == answer else "edit", text, lacks(asked, answer) if asked else ())
        chance = _chance(question, answer)
        if chance < broken and len(messages) == 2:
            return "I am not sure what you want." if chance < broken / 2 else reply[: len(reply) // 2]
        return f"Here you are:\n```json\n{reply}\n```\n" if chance > 1 - fenced else reply

    return BillingServer(say, pause)


def _chance(question: str, answer: str) -> float:
    digest = hashlib.sha256(json.dumps([question, answer]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fenced", type=float, default=0.0, help="share of replies in Markdown fences")
    parser.add_argument("--broken", type=float, default=0.0, help="share of first replies that cannot be read")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds for each reply")
    given = parser.parse_args()
    serve(oracle_server(given.fenced, given.broken, given.pause))
