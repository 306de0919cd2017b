"""What an annotator is asked for a correction, and what its reply says; one that says nothing is asked for again."""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from aligner.building.nouns import Choice, Reply
from aligner.building.principles import Principles
from aligner.building.reading_replies import NO_CORRECTION, Verdict, is_whole, text_alone, text_in_brackets, verdict_in
from aligner.prompts import EDITORS, Editor, editor_named
from aligner.prompts.sealing import filled
from aligner.records import Message, Question

_EXACT = frozenset({"human", "aligner", "given"})
"""ways whose replies were written by `as_reply`, with texts as they are and not as a prompt shows them"""
_THOUGHTS = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_COMMAND = re.compile(r"\\([bfnrt][a-z]+)")
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LETTER_BEHIND = {control: re.compile(rf"{control}[A-Za-z]") for control in "\t\r"}
_TAILS = re.compile(
    r"[\t\r](?:imes|heta|au|ext(?:bf|it|rm|tt)?|anh?|op|o|riangle|frac|ilde|herefore|ag"
    r"|ho|m|ight(?:arrow)?|angle|floor|ceil)(?![A-Za-z])"
    r"|\n(?:eq?q|abla|eg|ot(?:in)?|mid|less|leq|geq|ewline|ewcommand|subseteq|cong|parallel|earrow|warrow)(?![A-Za-z])"
)
"""what is left of commands of LaTeX whose backslash and first letter became one sign"""
_SHORT_TAILS = re.compile(r"\n[eiu](?![A-Za-z])")
r"""of \ne, \ni and \nu, which are words of some languages, too"""
_FORMULA = re.compile(r"[$\\^]")


class Understood(NamedTuple):
    """What an annotator said of an answer; `keep` has the answer itself as its text, byte for byte."""

    choice: Choice
    text: str
    reasons: tuple[str, ...] = ()


class Unread(NamedTuple):
    """A reply that could not be read."""

    why: str
    """in our words alone, so that it can be told to the annotator, and counted"""
    said: str


def request_messages(
    prompt: str, question: Question, answer: str, principles: Principles, *, before: Unread | None = None
) -> tuple[Message, ...]:
    """What the annotator reads; after a reply that could not be read also that reply, and what was wrong with it.

    Equal for equal arguments: two asks after the same bad reply differ in nothing but the sample that their keys name.
    Raises MisuseError for an unknown prompt.
    """
    editor = editor_named(prompt)
    system, user = editor.messages(question, answer, principles.text)
    if before is None:
        return system, user
    again = filled(editor.again, {"why": before.why})
    said = before.said if before.said.strip() else "(nothing)"  # servers refuse an empty turn
    return system, user, Message("assistant", said), Message("user", again)


def template_of(prompt: str, principles: Principles) -> str:
    """The name, the version and a hash of all that an annotator is told besides the texts; a part of a call's key."""
    editor = editor_named(prompt)
    parts = [editor.system, editor.user, editor.again, editor.marks, editor.turns, principles.version_hash]
    return f"{editor.name}-{editor.version}-{hashlib.sha256(orjson.dumps(parts)).hexdigest()[:12]}"


def exchange_in(messages: Sequence[Message]) -> tuple[Question, str] | None:
    """The question and the answer that `request_messages` was given, whatever the prompt; None for other messages.

    The published prompts give a conversation back as one text.
    """
    user = next((message.content for message in messages if message.role == "user"), "")
    return next((texts for editor in EDITORS.values() if (texts := editor.texts(user)) is not None), None)


def as_reply(choice: Choice, text: str, reasons: tuple[str, ...] = ()) -> str:
    """A verdict that needs no model, as the text of a reply that `read("ours", …)` understands exactly.

    For ways human, aligner and given. Half a surrogate is escaped, and is then not understood.
    """
    return Verdict(choice, reasons, text if choice == "edit" else "").as_json()


def read(prompt: str, answer: str, reply: Reply) -> Understood | Unread:
    """What a reply says of the answer; an edit that changes nothing but line ends and outer white space is `keep`.

    A correction that was cut off, or lost a part of itself on its way through JSON, is not understood: a truncated
    copy is the worst that can be taught. Raises MisuseError for an unknown prompt, and nothing for any reply.
    """
    editor = editor_named(prompt)
    found = _found(editor, answer, reply)
    if isinstance(found, Verdict):
        exact = reply.way in _EXACT
        text = found.correction if exact else editor.unsealed(found.correction)
        reasons = tuple(map(_whole, found.reasons))
        if same(text, answer) or (found.choice == "keep" and not text.strip()):
            return Understood("keep", answer, reasons)
        found = _problem(found.choice, text, "" if exact or editor.form != "json" else answer)
        if found is None:
            return Understood("edit", text, reasons)
    return Unread(found, _whole(reply.text))


def _found(editor: Editor, answer: str, reply: Reply) -> Verdict | str:
    if reply.finish_reason != "stop":
        return "it was cut off before its end"
    if not reply.text.strip():
        return "it was empty"
    shown = editor.sealed(answer)
    said = reply.text if reply.way in _EXACT else _without_thoughts(reply.text, shown)
    return _FORMS[editor.form](said, shown) if said.strip() else "it holds thoughts and no reply behind them"


def _problem(choice: Choice, text: str, answer: str) -> str | None:
    """Why a correction cannot be taken; with an answer, also whether its backslashes were lost."""
    if choice == "keep":
        return 'it says "keep" and gives another text'
    if not text.strip():
        return NO_CORRECTION
    if not is_whole(text):
        return "its correction holds half a surrogate, which is no character"
    if answer and lost_backslashes(text, answer):
        return "backslashes of its correction are not written twice, as JSON wants them"
    return None


def same(text: str, answer: str) -> bool:
    """Whether two texts differ in nothing but line ends, white space before these, and white space around the whole."""
    return text == answer or _bare(text) == _bare(answer)


def lost_backslashes(text: str, answer: str) -> bool:
    r"""Whether commands such as `\times` became a tab and "imes" on their way through JSON.

    What the answer has, too, is no loss: tabs before letters in code, say. A new line is one only where what follows
    is known as the rest of a command.
    """
    if any(control in text and control not in answer for control in "\b\f"):
        return True
    if any(letter.search(text) and not letter.search(answer) for letter in _LETTER_BEHIND.values()):
        return True
    lost = {_CONTROL[name[0]] + name[1:] for name in _COMMAND.findall(answer)} | set(_TAILS.findall(text))
    if _FORMULA.search(text):
        lost |= set(_SHORT_TAILS.findall(text))
    return any(part in text and part not in answer for part in lost)


def _bare(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(map(str.rstrip, lines)).strip()


def _whole(text: str) -> str:
    """The text with a mark in place of each half of a surrogate, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_thoughts(said: str, answer: str) -> str:
    """A reply without the thoughts that some models write before it; nothing where these have no end."""
    marks = [] if _THOUGHTS.search(answer) else list(_THOUGHTS.finditer(said))
    if not marks:
        return said
    return said[marks[-1].end() :] if marks[-1][1] else ""


_FORMS = {"json": verdict_in, "brackets": text_in_brackets, "whole": text_alone}
