"""Reading an answer that is still being written, so that little is left to read when it is whole."""

from aligner.decoding.decoder import Beginning, Decoder
from aligner.records import Question
from aligner.templates import PromptEncoder

LEAST = 32
"""new tokens that make a pass worth its price; a text has at least as many characters as such tokens"""
_MOST = 128
"""new tokens in one pass, so that whoever has a whole answer waits for a short pass at the most"""
_HELD_BACK = 8
"""tokens at the end that the next letters may still change"""


class Reading:
    """How far the prompt of one growing answer was read."""

    def __init__(self, question: Question, instruction: str = "") -> None:
        self.beginning = Beginning()
        self.due = False
        """whether it stands in line for a pass"""
        self._question = question
        self._instruction = instruction
        self._parts: list[str] = []
        self._new = 0
        """characters since the last look"""
        self._more = True
        """whether the last look left some to read; the question is worth a first one"""

    def add(self, text: str) -> None:
        """Take in more of the answer."""
        self._parts.append(text)
        self._new += len(text)

    @property
    def worth_a_look(self) -> bool:
        """Whether so much has come that there may be enough to read."""
        return self._more or self._new >= LEAST

    def look(self) -> str:
        """The answer so far; from now on, only what comes in is new."""
        self._new, self._more = 0, False
        return "".join(self._parts)

    def read(self, answer: str, decoder: Decoder, encoder: PromptEncoder, *, context: int) -> None:
        """Read on in one pass, where there is enough and it fits."""
        prompt = encoder.beginning_ids(self._question, answer, self._instruction)[:-_HELD_BACK]
        known = self.beginning.cut(prompt)
        if len(prompt) - known >= LEAST and len(prompt) < context:
            decoder.read(self.beginning, prompt[: known + _MOST])
            self._more = len(prompt) - known - _MOST >= LEAST
