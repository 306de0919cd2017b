"""The fields of a row as the nouns of the system, and back; what is wrong with them is a RowError."""

from collections.abc import Mapping
from typing import cast, get_args

from aligner.errors import MisuseError
from aligner.files import RowError
from aligner.objectives import instruction_from
from aligner.records import Exchange, Message, Question, Role, Triple, as_question

_NO_SOURCES = ("", "", "")


def text_of(value: object, name: str) -> str:
    """A value as text; raises RowError, which calls it `name`, for what is absent, not text, blank or half a letter."""
    text = _any_text(value, name)
    if not text.strip():
        raise RowError(f'"{name}" is empty')
    return text


def text_field(row: Mapping[str, object], name: str) -> str:
    """The text in one field of a row."""
    return text_of(row.get(name), name)


def question_of(row: Mapping[str, object]) -> Question:
    """The question in `question`, or where there is none the conversation in `messages`."""
    name = "messages" if row.get("question") is None and row.get("messages") is not None else "question"
    return as_asked(row.get(name), name)


def as_asked(value: object, name: str) -> Question:
    """A text, or a list of `{role, content}` messages that ends with the user's turn, as a question.

    A conversation of one user turn is its text.
    """
    if not isinstance(value, list):
        return text_of(value, name)
    messages = messages_of(cast(list[object], value), name)
    if not messages:
        raise RowError(f'"{name}" is empty')
    if messages[-1].role != "user":
        raise RowError(f'"{name}" ends with the turn of the {messages[-1].role}, not of the user')
    text_of(messages[-1].content, f"{name}.{len(messages) - 1}.content")
    return as_question(messages)


def messages_of(value: object, name: str) -> tuple[Message, ...]:
    """A list of `{role, content}` messages, of which some may be empty."""
    if not isinstance(value, list):
        raise RowError(f'"{name}" is {kind_of(value)}, not a list of messages')
    return tuple(_message(item, f"{name}.{i}") for i, item in enumerate(cast(list[object], value)))


def exchange_of(row: Mapping[str, object], *, instruction: str = "") -> Exchange:
    """A row with `question`, `answer` and perhaps `id`, and `instruction` or `objective`, as an exchange.

    One that says neither has the instruction that is given.
    """
    return Exchange(question_of(row), text_field(row, "answer"), _id_of(row), instruction_of(row) or instruction)


def triple_of(row: Mapping[str, object]) -> Triple:
    """A row with `question`, `answer`, `correction` and perhaps the fields below as a triple."""
    return Triple(
        question_of(row),
        text_field(row, "answer"),
        text_field(row, "correction"),
        sources_of(row) or _NO_SOURCES,
        conversation_of(row),
        instruction_of(row),
    )


def sources_of(row: Mapping[str, object]) -> tuple[str, str, str] | None:
    """Where question, answer and correction came from, if the row says so."""
    match row.get("sources"):
        case None:
            return None
        case [str() as question, str() as answer, str() as correction]:
            return question, answer, correction
        case _:
            raise RowError('"sources" is not a list of three texts')


def conversation_of(row: Mapping[str, object]) -> str:
    """What names the row's conversation; others use the same word for other things, which name none."""
    value = row.get("conversation")
    return _any_text(value, "conversation") if isinstance(value, str) else ""


def instruction_of(row: Mapping[str, object]) -> str:
    """What the row's Aligner is told, in words as `instruction` or by name as `objective`; "" where it says neither."""
    said, name = (_text_or_none(row, field) for field in ("instruction", "objective"))
    try:
        return instruction_from(said, name)
    except MisuseError as error:
        raise RowError(str(error)) from error


def row_of(triple: Triple) -> dict[str, object]:
    """A triple as a row; a conversation stands in `messages`, so that each column has one type, as Parquet needs it."""
    return {
        **_question_row(triple.question),
        "answer": triple.answer,
        "correction": triple.correction,
        "sources": list(triple.sources),
        **({"conversation": triple.conversation} if triple.conversation else {}),
        **({"instruction": triple.instruction} if triple.instruction else {}),
    }


def kind_of(value: object) -> str:
    """What kind of JSON value it is, in words."""
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return f"a {type(value).__name__}"


# A bool is an int too, so it comes first.
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "an object"),
    (type(None), "null"),
)


def _any_text(value: object, name: str) -> str:
    if value is None:
        raise RowError(f'no "{name}"')
    if not isinstance(value, str):
        raise RowError(f'"{name}" is {kind_of(value)}, not text')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(f'"{name}" is not valid Unicode: it holds half a surrogate pair') from None
    return value


def _text_or_none(row: Mapping[str, object], name: str) -> str:
    """The text in a field; an empty or blank one says nothing."""
    value = row.get(name)
    return "" if value is None or not (text := _any_text(value, name)).strip() else text


def _message(value: object, name: str) -> Message:
    if not isinstance(value, dict):
        raise RowError(f'"{name}" is {kind_of(value)}, not a message')
    fields = cast(dict[str, object], value)
    role = _any_text(fields.get("role"), f"{name}.role")
    if role not in get_args(Role):
        raise RowError(f'"{name}.role" is none of {", ".join(get_args(Role))}')
    return Message(cast(Role, role), _any_text(fields.get("content"), f"{name}.content"))


def _id_of(row: Mapping[str, object]) -> str:
    value = row.get("id")
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f'"id" is {kind_of(value)}, neither text nor a whole number')
    return _any_text(str(value), "id")


def _question_row(question: Question) -> dict[str, object]:
    if isinstance(question, str):
        return {"question": question}
    return {"messages": [{"role": message.role, "content": message.content} for message in question]}
