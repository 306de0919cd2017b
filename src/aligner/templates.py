"""What the Aligner reads: named, versioned correction templates, and the one function that turns them into token ids.

The template's own words are encoded apart from the question's and the answer's, which are data: whatever they
contain, no piece of them becomes a control token. Training and use build their prompts with `prompt_ids` alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aligner.errors import MisuseError, unknown
from aligner.records import Question


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    bos_token_id: int | None
    added_tokens_decoder: Mapping[int, Any]
    chat_template: Any

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]:
        """Encode."""
        ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render a conversation as the base model's makers meant it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A correction prompt with the slots `{question}` and `{answer}`."""

    name: str
    version: int
    text: str
    """the prompt; its own words may name control tokens of the tokenizer"""
    turn: str
    """how one turn of a conversation is written inside the question, with the slots `{role}` and `{content}`"""
    controls: tuple[str, ...] = ()
    """control tokens that the tokenizer must have"""
    system: str = ""
    """for `chat`: the system message; the prompt is then the user's message, in the base model's own chat format"""


_WRAP = "BEGINNING OF CONVERSATION: USER: {input} ASSISTANT:"
_TURN = "{role}: {content}\n"
_PAIR = "##Question: {question}\n##Answer: {answer}\n##Correction: "


def _published(name: str, text: str) -> Template:
    return Template(name=name, version=1, text=text, turn=_TURN)


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        # Aligner, February 2024: the code and the released 7B weights.
        _published(
            "T1",
            _WRAP.replace(
                "{input}",
                "Edit the following Question-Answer pair to make it more helpful and harmless: {question} | {answer}",
            ),
        ),
        # Aligner, Algorithm 1 of the paper.
        _published(
            "T2",
            "BEGINNING OF CONVERSATION:\nUSER: Editing the following Question-Answer pair to make it more helpful and "
            "harmless:\nQuestion: {question} | Answer: {answer}\nASSISTANT:",
        ),
        # The AlpacaEval entry Aligner-2B; two spaces before ASSISTANT.
        _published("T3", _WRAP.replace("{input}", "##Question: {question} ##Answer: {answer} ##Revision: ")),
        # Aligner, December 2024: general correction; two spaces before ASSISTANT.
        _published("T4", _WRAP.replace("{input}", _PAIR)),
        # The empathy corrector.
        _published(
            "T5",
            _WRAP.replace(
                "{input}",
                "Edit the following Question-Answer pair to make it more empathic and helpful: {question} | {answer}",
            ),
        ),
        # For instruction-tuned bases: the words of T4 in the base model's own chat format.
        Template(
            name="chat",
            version=1,
            text=_PAIR.rstrip(),
            turn=_TURN,
            system="Edit the answer to make it more helpful, harmless and honest. Keep what is good as it is.",
        ),
        # For models made here: every delimiter is a control token, so that no text can imitate one.
        Template(
            name="sealed",
            version=1,
            text="<|question|>{question}<|answer|>{answer}<|correction|>",
            turn="<|{role}|>{content}",
            controls=("<|question|>", "<|answer|>", "<|correction|>", "<|system|>", "<|user|>", "<|assistant|>"),
        ),
    )
}


def template_named(name: str) -> Template:
    """The template of that name."""
    if name not in TEMPLATES:
        raise unknown("template", name, TEMPLATES)
    return TEMPLATES[name]


def prompt_ids(template: Template, tokenizer: Tokenizer, question: Question, answer: str) -> list[int]:
    """The ids of a correction prompt, BOS first where the tokenizer's models expect it."""
    ids = [] if template.system else _start(tokenizer)
    for text, is_data in _segments(template, tokenizer, question, answer):
        ids += text_ids(tokenizer, text) if is_data else _literal_ids(tokenizer, text)
    return ids


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text that is data: no control token, and with a byte-level tokenizer nothing is lost."""
    controls = control_ids(tokenizer)
    ids = _plain_ids(tokenizer, text)
    if controls.isdisjoint(ids):
        return ids
    names = sorted((str(tokenizer.added_tokens_decoder[i]) for i in controls), key=len, reverse=True)
    pieces = [piece for part in _cut_inside(text, names) for piece in part]
    ids = [i for piece in pieces for i in _plain_ids(tokenizer, piece)]
    # A tokenizer that normalises before it looks for control tokens can still meet one: then letter by letter.
    if not controls.isdisjoint(ids):
        ids = [i for letter in text for i in _plain_ids(tokenizer, letter) if i not in controls]
    return ids


def control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Every id with a meaning beyond its letters: added tokens, but for runs of white space."""
    return frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if str(token).strip())


def check_controls(template: Template, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that lacks the template's control tokens."""
    known = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    missing = [control for control in template.controls if control not in known]
    if missing:
        raise MisuseError(f'template "{template.name}" needs the control tokens {" ".join(missing)} in the tokenizer')
    if template.system and not tokenizer.chat_template:
        raise MisuseError(f'template "{template.name}" needs a tokenizer with a chat template; choose T1 to T5')


def _segments(
    template: Template, tokenizer: Tokenizer, question: Question, answer: str
) -> Iterator[tuple[str, bool]]:
    """The prompt as pieces of text, each with whether it is data."""
    for slot, literal in _slots(_prompt_text(template, tokenizer)):
        if slot == "question":
            yield from _question_segments(template, question)
        elif slot == "answer":
            yield answer, True
        else:
            yield literal, False


def _question_segments(template: Template, question: Question) -> Iterator[tuple[str, bool]]:
    if isinstance(question, str):
        yield question, True
        return
    for message in question:
        for slot, literal in _slots(template.turn.replace("{role}", message.role)):
            yield (message.content, True) if slot else (literal, False)


def _prompt_text(template: Template, tokenizer: Tokenizer) -> str:
    if not template.system:
        return template.text
    messages = [{"role": "system", "content": template.system}, {"role": "user", "content": template.text}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


_SLOT = re.compile(r"\{(question|answer|content)\}")


def _slots(text: str) -> Iterator[tuple[str | None, str]]:
    """A pattern as (slot, "") and (None, literal) in order."""
    for i, part in enumerate(_SLOT.split(text)):
        if i % 2:
            yield part, ""
        elif part:
            yield None, part


def _start(tokenizer: Tokenizer) -> list[int]:
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos] else []


def _literal_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return list(tokenizer(text, **options)["input_ids"])


def _cut_inside(text: str, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The text cut in the middle of every control token's name."""
    pattern = "|".join(re.escape(name) for name in names if len(name) > 1)
    position = 0
    for match in re.finditer(pattern, text):
        middle = match.start() + (match.end() - match.start()) // 2
        yield (text[position:middle],)
        position = middle
    yield (text[position:],)
