"""Laws of the echo model."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligner.errors import MisuseError, ModelError
from aligner.models import load_model
from aligner.records import ChatModel, Message

EARLIER = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text()))


async def pieces_of(model: ChatModel, messages: list[Message]) -> str:
    return "".join([piece async for piece in model.stream(messages)])


@given(EARLIER, st.text(), st.booleans())
def test_an_echo_is_the_last_user_message(earlier: list[Message], text: str, draft: bool) -> None:
    """Whatever was said before, and whether a draft is given or not, streamed or not."""
    model, messages = load_model("echo:"), [*earlier, Message("user", text)]
    answer = asyncio.run(model.complete(messages, prediction="draft" if draft else None))
    assert answer.text == text
    assert asyncio.run(pieces_of(model, messages)) == text


def test_without_a_user_message_there_is_nothing_to_echo() -> None:
    """A conversation in which no user speaks is a clear error."""
    with pytest.raises(ModelError, match="no user message"):
        asyncio.run(load_model("echo:").complete([Message("system", "Be brief.")]))


def test_echo_takes_no_name() -> None:
    """What stands after the colon would be ignored, so it is refused."""
    with pytest.raises(MisuseError, match="loud"):
        load_model("echo:loud")
