"""What the Aligner reads: named, versioned correction templates, and the one function that turns them into token ids.

The template's own words are encoded apart from the question's, the answer's and the instruction's, which are data:
whatever they contain, no piece of them becomes a control token. T1 to T5 are the published strings (reference code and
paper); with an instruction in place of the published wish, T1 asks as the published Instruct-Aligner does.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, get_args

from aligner.errors import MisuseError, unknown
from aligner.records import Question, Role


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
    """A correction prompt with the slots `{question}` and `{answer}`, and its second form, with an instruction too."""

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
    instructed: str = ""
    """the prompt with an instruction, which has the slot `{instruction}` too; none if it takes no instruction"""
    instruction: str = ""
    """what it says where no instruction is given; with none, the prompt without one is used"""

    def told(self, instruction: str, *, learns: bool) -> "Template":
        """As a checkpoint keeps it: with what it is told by default.

        Control tokens say nothing to a model that has not learnt them: unless it `learns` from instructions, or has
        one, a template with such tokens loses the form for them. Plain words need not be learnt.
        """
        takes = learns or instruction or not self.controls
        return replace(self, instruction=instruction, instructed=self.instructed if takes else "")


_WRAP = "BEGINNING OF CONVERSATION: USER: {input} ASSISTANT:"
_TURN = "{role}: {content}\n"
_PAIR = "##Question: {question}\n##Answer: {answer}\n##Correction: "
_TOLD = "##Instruction: {instruction}"


def _published(name: str, text: str, *, instructed: str) -> Template:
    return Template(name=name, version=1, text=text, turn=_TURN, instructed=instructed)


def _asked_to(name: str, wish: str, text: str) -> Template:
    """A published template that says what to do; an instruction stands in place of that wish."""
    return _published(name, text.replace("{instruction}", wish), instructed=text)


_EDIT = _WRAP.replace("{input}", "Edit the following Question-Answer pair to {instruction}: {question} | {answer}")


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        # Aligner, February 2024: the code and the released 7B weights.
        _asked_to("T1", "make it more helpful and harmless", _EDIT),
        # Aligner, Algorithm 1 of the paper.
        _asked_to(
            "T2",
            "make it more helpful and harmless",
            "BEGINNING OF CONVERSATION:\nUSER: Editing the following Question-Answer pair to {instruction}:\n"
            "Question: {question} | Answer: {answer}\nASSISTANT:",
        ),
        # The AlpacaEval entry Aligner-2B; two spaces before ASSISTANT.
        _published(
            "T3",
            _WRAP.replace("{input}", "##Question: {question} ##Answer: {answer} ##Revision: "),
            instructed=_WRAP.replace("{input}", f"{_TOLD} ##Question: {{question}} ##Answer: {{answer}} ##Revision: "),
        ),
        # Aligner, December 2024: general correction; two spaces before ASSISTANT.
        _published("T4", _WRAP.replace("{input}", _PAIR), instructed=_WRAP.replace("{input}", f"{_TOLD}\n{_PAIR}")),
        # The empathy corrector.
        _asked_to("T5", "make it more empathic and helpful", _EDIT),
        # For instruction-tuned bases: the words of T4 in the base model's own chat format.
        Template(
            name="chat",
            version=1,
            text=_PAIR.rstrip(),
            turn=_TURN,
            system="Edit the answer to make it more helpful, harmless and honest. Keep what is good as it is.",
            instructed=f"{_TOLD}\n{_PAIR.rstrip()}",
        ),
        # For models made here: every delimiter is a control token, so that no text can imitate one.
        Template(
            name="sealed",
            version=1,
            text="<|question|>{question}<|answer|>{answer}<|correction|>",
            turn="<|{role}|>{content}",
            controls=("<|question|>", "<|answer|>", "<|correction|>", "<|system|>", "<|user|>", "<|assistant|>"),
            instructed="<|system|>{instruction}<|question|>{question}<|answer|>{answer}<|correction|>",
        ),
    )
}


def template_named(name: str) -> Template:
    """The template of that name."""
    if name not in TEMPLATES:
        raise unknown("template", name, TEMPLATES)
    return TEMPLATES[name]


def template_of(fields: Mapping[str, Any]) -> Template:
    """A template that was saved as its fields.

    One of plain words that was saved before there were instructions takes them in today's form, if it is else the one
    of that name.
    """
    controls: tuple[str, ...] = tuple(fields["controls"])
    others = {name: value for name, value in fields.items() if name != "controls"}
    template = Template(**others, controls=controls)
    if "instructed" in fields or controls or (named := TEMPLATES.get(template.name)) is None:
        return template
    return named if replace(named, instructed="") == template else template


class AnswerMarks(NamedTuple):
    """The template's own ids right before and right behind the answer; none where it has none there."""

    before: Sequence[int]
    behind: Sequence[int]


class PromptEncoder:
    """One template bound to one tokenizer; training and use build their prompts here, and nowhere else.

    Raises MisuseError for a tokenizer that lacks what the template needs.
    """

    def __init__(self, template: Template, tokenizer: Tokenizer) -> None:
        self.template = template
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        _check_controls(template, tokenizer, map(str, added.values()))
        self.control_ids = frozenset(i for i, token in added.items() if _is_control(token))
        """every id with a meaning beyond its letters"""
        self._cut = _cutter(str(added[i]) for i in self.control_ids)
        self._start = [] if template.system else _start(tokenizer)
        # Encoded once and for all: a tokenizer that threads share must not go back and forth between two ways to split.
        self._prompt = self._pattern(_prompt_text(template, template.text, tokenizer))
        self._instructed = self._pattern(_prompt_text(template, template.instructed, tokenizer))
        self._turns = {role: self._pattern(template.turn.replace("{role}", role)) for role in get_args(Role)}
        self._instruction = self.text_ids(template.instruction)

    def prompt_ids(self, question: Question, answer: str, instruction: str = "") -> list[int]:
        """The ids of a correction prompt, BOS first where the tokenizer's models expect it.

        Raises MisuseError for an instruction to a template that takes none.
        """
        return self.assemble(self._question_ids(question), self.text_ids(answer), self.text_ids(instruction))

    def assemble(
        self, question_ids: Sequence[int], answer_ids: Sequence[int], instruction_ids: Sequence[int] = ()
    ) -> list[int]:
        """The prompt around a question, an answer and an instruction that are ids already."""
        told = instruction_ids or self._instruction
        if told and not self._instructed:
            name = self.template.name
            raise MisuseError(
                f'this Aligner takes no instruction (template "{name}"): train one on rows that have some'
            )
        filled = {"question": question_ids, "answer": answer_ids, "instruction": told}
        prompt = self._instructed if told else self._prompt
        return [*self._start, *(i for slot, literal in prompt for i in filled.get(slot, literal))]

    def beginning_ids(self, question: Question, answer: str, instruction: str = "") -> list[int]:
        """The ids of a prompt up to the end of its answer; they hold, but for the last few, while the answer grows."""
        end = -1
        answer_ids = [*self.text_ids(answer), end]
        ids = self.assemble(self._question_ids(question), answer_ids, self.text_ids(instruction))
        return ids[: ids.index(end)]

    @property
    def takes_instructions(self) -> bool:
        """Whether there is a prompt with one."""
        return bool(self._instructed)

    @property
    def answer_marks(self) -> AnswerMarks:
        """What stands around the answer in every prompt."""
        place = next(i for i, (slot, _) in enumerate(self._prompt) if slot == "answer")
        around = [("", list[int]()), *self._prompt, ("", list[int]())]
        return AnswerMarks(around[place][1], around[place + 2][1])

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text that is data: no control token, and with a byte-level tokenizer nothing is lost."""
        ids = self._plain_ids(text)
        if self.control_ids.isdisjoint(ids):
            return ids
        if len(text) == 1:
            return [i for i in ids if i not in self.control_ids]
        pieces = self._cut(text)
        # A tokenizer that normalises before it looks for control tokens can still meet one, and knows best where.
        pieces = pieces if len(pieces) > 1 else [text[: len(text) // 2], text[len(text) // 2 :]]
        return [i for piece in pieces for i in self.text_ids(piece)]

    def _question_ids(self, question: Question) -> list[int]:
        if isinstance(question, str):
            return self.text_ids(question)
        ids: list[int] = []
        for message in question:
            for slot, literal in self._turns[message.role]:
                ids += self.text_ids(message.content) if slot else literal
        return ids

    def _pattern(self, text: str) -> list[tuple[str, list[int]]]:
        """A pattern as (slot, no ids) and ("", the ids of a literal) in order."""
        options = {"add_special_tokens": False, "split_special_tokens": False}
        return [(slot, list(self._tokenizer(literal, **options)["input_ids"])) for slot, literal in _slots(text)]

    def _plain_ids(self, text: str) -> list[int]:
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        return list(self._tokenizer(text, **options)["input_ids"])


def _check_controls(template: Template, tokenizer: Tokenizer, added: Iterable[str]) -> None:
    missing = sorted(set(template.controls) - set(added))
    if missing:
        raise MisuseError(f'template "{template.name}" needs the control tokens {" ".join(missing)} in the tokenizer')
    if template.system and not tokenizer.chat_template:
        raise MisuseError(f'template "{template.name}" needs a tokenizer with a chat template; choose T1 to T5')


def _is_control(token: Any) -> bool:
    """Not so are runs of white space, and letters that were added only because the vocabulary lacked them."""
    return bool(str(token).strip()) and (token.special or len(str(token)) > 1)


def _prompt_text(template: Template, text: str, tokenizer: Tokenizer) -> str:
    if not (template.system and text):
        return text
    system, user = {"role": "system", "content": template.system}, {"role": "user", "content": text}
    rendered = _rendered(tokenizer, [system, user])
    if rendered is None or template.system not in rendered:
        # The chat formats of Gemma and the first Mistral know no system message.
        rendered = _rendered(tokenizer, [{**user, "content": f"{template.system}\n\n{text}"}])
    if rendered is None or {slot for slot, _ in _slots(rendered)} != {"", *(slot for slot, _ in _slots(text))}:
        raise MisuseError(
            f'template "{template.name}" does not go with the tokenizer\'s chat template; choose T1 to T5'
        )
    return rendered


def _rendered(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> str | None:
    """The messages in the tokenizer's chat format, or None when it refuses them."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return None


_SLOT = re.compile(r"\{(question|answer|instruction|content)\}")


def _slots(text: str) -> Iterator[tuple[str, str]]:
    """A pattern as (slot, "") and ("", literal) in order."""
    for i, part in enumerate(_SLOT.split(text)):
        if i % 2:
            yield part, ""
        elif part:
            yield "", part


def _start(tokenizer: Tokenizer) -> list[int]:
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos] else []


def _cutter(names: Iterable[str]) -> Callable[[str], list[str]]:
    """A function that cuts a text behind the first letter of every one of the names in it, overlapping ones too."""
    long = "|".join(re.escape(name) for name in sorted(names) if len(name) > 1)
    pattern = re.compile(f"(?={long})" if long else "(?!)")

    def cut(text: str) -> list[str]:
        places = [match.start() + 1 for match in pattern.finditer(text)]
        return [text[start:end] for start, end in pairwise([0, *places, len(text)])]

    return cut
