"""Laws of templates: the exact published words, and text that is never more than text."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_aligner
from tokenizers_of_kinds import CHAT, CONTROLS, KINDS, SPECIAL, THINK, byte_level, sentencepiece_bpe
from transformers import AutoTokenizer

from aligner.correcting.lm_writer import LMWriter, load_checkpoint, writer_of
from aligner.errors import MisuseError
from aligner.models.hf import load_causal_lm
from aligner.records import Exchange, Message, Question, Role, SamplingParams, Triple, as_question
from aligner.templates import TEMPLATES, PromptEncoder, Template, template_named
from aligner.training.card import Card
from aligner.training.encode import encode_row

PUBLISHED = {
    "T1": "BEGINNING OF CONVERSATION: USER: Edit the following Question-Answer pair to make it more helpful and "
    "harmless: {question} | {answer} ASSISTANT:",
    "T2": "BEGINNING OF CONVERSATION:\nUSER: Editing the following Question-Answer pair to make it more helpful and "
    "harmless:\nQuestion: {question} | Answer: {answer}\nASSISTANT:",
    "T3": "BEGINNING OF CONVERSATION: USER: ##Question: {question} ##Answer: {answer} ##Revision:  ASSISTANT:",
    "T4": "BEGINNING OF CONVERSATION: USER: ##Question: {question}\n##Answer: {answer}\n##Correction:  ASSISTANT:",
    "T5": "BEGINNING OF CONVERSATION: USER: Edit the following Question-Answer pair to make it more empathic and "
    "helpful: {question} | {answer} ASSISTANT:",
}
NAMES = (
    *SPECIAL,
    *THINK,
    "{question}",
    "{answer}",
    "{content}",
    "{instruction}",
    "USER:",
    "ASSISTANT:",
    "##Answer:",
    "system",
    " | ",
)


def nested(pieces: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Pieces side by side, or one within a name that it tears in two."""
    torn = st.builds(
        lambda name, at, inner: name[:at] + inner + name[at:], st.sampled_from(NAMES), st.integers(1, 8), pieces
    )
    return st.lists(pieces | torn, max_size=4).map("".join)


# As they are, in capitals and in full-width letters, which some tokenizers take for the same; whole and torn.
SPELT = st.sampled_from(NAMES).flatmap(
    lambda name: st.sampled_from(
        [name, name.upper(), name[: len(name) // 2], name[len(name) // 2 :], name.translate({60: 0xFF1C, 62: 0xFF1E})]
    )
)
HOSTILE = st.recursive(SPELT | st.text(max_size=5), nested, max_leaves=8)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(get_args(Role)), HOSTILE), min_size=1, max_size=3)
QUESTIONS: st.SearchStrategy[Question] = HOSTILE | MESSAGES.map(as_question)
INSTRUCTIONS = st.just("") | HOSTILE
ENCODERS = {
    (kind, name): PromptEncoder(TEMPLATES[name], make())
    for kind, make in KINDS.items()
    for name in ("sealed", "T4", "chat")
}
BYTE_LEVEL = byte_level()
PLAIN = {
    (kind, name): tuple(PromptEncoder(each, tokenizer) for each in (template, replace(template, instructed="")))
    for kind, make in KINDS.items()
    for tokenizer in [make()]
    for name, template in TEMPLATES.items()
}
"""for each kind of tokenizer and template, one that takes an instruction, and one that takes none"""


def decoded(ids: Sequence[int]) -> str:
    """What byte-level ids say, control tokens included."""
    return BYTE_LEVEL.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def controls(encoder: PromptEncoder, ids: Sequence[int]) -> list[int]:
    """The control tokens among ids."""
    return [i for i in ids if i in encoder.control_ids]


@given(question=HOSTILE, answer=HOSTILE)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_are_the_exact_strings(name: str, question: str, answer: str) -> None:
    """The ids of T1 to T5 say what was published, with question and answer in their places."""
    ids = PromptEncoder(TEMPLATES[name], BYTE_LEVEL).prompt_ids(question, answer)
    before, between, after = PUBLISHED[name].replace("{answer}", "{question}").split("{question}")
    assert decoded(ids) == f"{before}{question}{between}{answer}{after}"


@given(question=HOSTILE, answer=HOSTILE, instruction=INSTRUCTIONS)
def test_question_answer_and_instruction_can_be_read_back(question: str, answer: str, instruction: str) -> None:
    """Between the control tokens of the sealed template stand all three, unabridged, whatever they say."""
    ids = PromptEncoder(TEMPLATES["sealed"], BYTE_LEVEL).prompt_ids(question, answer, instruction)
    marks = BYTE_LEVEL.convert_tokens_to_ids([*(["<|system|>"] if instruction else []), *CONTROLS[:3]])
    parts = [list(part) for is_mark, part in groupby(ids, key=marks.__contains__) if not is_mark]
    assert [i for i in ids if i in marks] == marks
    assert [decoded(part) for part in parts] == [text for text in (instruction, question, answer) if text]


@given(question=QUESTIONS, answer=HOSTILE)
@settings(max_examples=15)
@pytest.mark.parametrize(("kind", "name"), PLAIN)
def test_without_an_instruction_nothing_of_one_is_read(kind: str, name: str, question: Question, answer: str) -> None:
    """The ids are those of the template that takes none, so that older checkpoints read what they always have."""
    encoder, older = PLAIN[kind, name]
    assert encoder.prompt_ids(question, answer, "") == older.prompt_ids(question, answer)
    assert encoder.beginning_ids(question, answer) == older.beginning_ids(question, answer)


@given(question=HOSTILE, answer=HOSTILE)
@settings(max_examples=25)
@pytest.mark.parametrize(
    ("name", "wish", "same"),
    [
        ("T1", "make it more helpful and harmless", "T1"),
        ("T1", "make it more empathic and helpful", "T5"),
        ("T2", "make it more helpful and harmless", "T2"),
        ("T5", "make it more helpful and harmless", "T1"),
    ],
)
def test_the_published_wishes_are_instructions(name: str, wish: str, same: str, question: str, answer: str) -> None:
    """Told in words what another published template says, one that says what to do reads the same text."""
    told = PromptEncoder(TEMPLATES[name], BYTE_LEVEL).prompt_ids(question, answer, wish)
    assert decoded(told) == decoded(PromptEncoder(TEMPLATES[same], BYTE_LEVEL).prompt_ids(question, answer))


def test_the_other_templates_name_the_instruction_first() -> None:
    """It stands under a heading of its own, before the question."""
    for name, end in (
        ("T3", "##Instruction: be brief ##Question: Why?"),
        ("T4", "##Instruction: be brief\n##Question: Why?"),
    ):
        text = decoded(PromptEncoder(TEMPLATES[name], BYTE_LEVEL).prompt_ids("Why?", "So.", "be brief"))
        assert text.startswith(f"BEGINNING OF CONVERSATION: USER: {end}")
    chat = decoded(PromptEncoder(TEMPLATES["chat"], BYTE_LEVEL).prompt_ids("Why?", "So.", "be brief"))
    assert "user\n##Instruction: be brief\n##Question: Why?\n##Answer: So.\n##Correction:<|im_end|>" in chat


@given(question=QUESTIONS, answer=HOSTILE, instruction=HOSTILE)
@settings(max_examples=25)
@pytest.mark.parametrize("name", ["sealed", "T4", "chat"])
def test_a_template_can_hold_an_instruction(name: str, question: Question, answer: str, instruction: str) -> None:
    """It is read where none is given, and another one that is given takes its place."""
    encoder, set_up = (
        PromptEncoder(template, BYTE_LEVEL)
        for template in (TEMPLATES[name], replace(TEMPLATES[name], instruction=instruction))
    )
    assert set_up.prompt_ids(question, answer) == encoder.prompt_ids(question, answer, instruction)
    assert set_up.prompt_ids(question, answer, "be brief") == encoder.prompt_ids(question, answer, "be brief")


@given(question=QUESTIONS, answer=HOSTILE, instruction=INSTRUCTIONS)
@settings(max_examples=50)
@pytest.mark.parametrize(("kind", "name"), ENCODERS)
def test_the_answer_stands_between_its_marks(
    kind: str, name: str, question: Question, answer: str, instruction: str
) -> None:
    """A prompt ends with one mark, the answer and the other mark, whatever question, answer and instruction say."""
    encoder = ENCODERS[kind, name]
    before, behind = encoder.answer_marks
    end = [*before, *encoder.text_ids(answer), *behind]
    assert before
    assert behind
    assert encoder.prompt_ids(question, answer, instruction)[-len(end) :] == end


@given(question=QUESTIONS, answer=HOSTILE, instruction=INSTRUCTIONS)
@pytest.mark.parametrize(("kind", "name"), ENCODERS)
def test_a_prompt_begins_with_all_up_to_its_answer(
    kind: str, name: str, question: Question, answer: str, instruction: str
) -> None:
    """What stands behind the answer is the template's own alone."""
    encoder, asked = ENCODERS[kind, name], (question, answer, instruction)
    beginning, prompt = encoder.beginning_ids(*asked), encoder.prompt_ids(*asked)
    assert beginning == prompt[: len(beginning)]
    assert prompt[len(beginning) :] == list(encoder.answer_marks.behind)


def test_an_answer_at_the_edge_has_no_mark_there() -> None:
    """Where the answer begins or ends the prompt, or stands beside the question, there is no mark on that side."""
    for text, marks in (("{answer}{question}", ["", ""]), ("{question}a{answer}", ["a", ""])):
        encoder = PromptEncoder(replace(TEMPLATES["T1"], text=text), BYTE_LEVEL)
        assert [decoded(mark) for mark in encoder.answer_marks] == marks


@given(text=HOSTILE | st.text())
def test_nothing_of_a_text_is_lost(text: str) -> None:
    """The ids of any text say that text, with a byte-level tokenizer."""
    assert decoded(PromptEncoder(TEMPLATES["T1"], BYTE_LEVEL).text_ids(text)) == text


@given(text=HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_text_never_becomes_a_control_token(kind: str, text: str) -> None:
    """With a tokenizer of any kind, no id of a text means more than letters."""
    encoder = ENCODERS[kind, "sealed"]
    assert encoder.control_ids.issuperset(BYTE_LEVEL.convert_tokens_to_ids(list(CONTROLS)))
    assert controls(encoder, encoder.text_ids(text)) == []


@given(question=QUESTIONS, answer=HOSTILE, instruction=INSTRUCTIONS)
@settings(max_examples=50)
@pytest.mark.parametrize(("kind", "name"), ENCODERS)
def test_control_tokens_are_the_templates_own(
    kind: str, name: str, question: Question, answer: str, instruction: str
) -> None:
    """Whatever all three say, the control tokens are those of any others of the same form, in order."""
    encoder = ENCODERS[kind, name]
    plain = question if isinstance(question, str) else tuple(replace(turn, content="a") for turn in question)
    told = "a" if encoder.text_ids(instruction) else ""
    expected = controls(encoder, encoder.prompt_ids("a" if isinstance(plain, str) else plain, "a", told))
    assert controls(encoder, encoder.prompt_ids(question, answer, instruction)) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("lower-case-wordpiece", "<THINK>"),
        ("lower-case-wordpiece", "\uff1cthink\uff1e"),
        ("unigram", "\uff1cthink\uff1e"),
        ("byte-level", "<think>"),
        ("sentencepiece-bpe", "<tool>x</tool>"),
    ],
)
def test_the_tokenizers_here_do_meet_control_tokens(kind: str, text: str) -> None:
    """Without the encoder's care, these texts would be control tokens, also with special tokens split."""
    tokenizer = KINDS[kind]()
    ids = tokenizer(f"say {text} now", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert controls(ENCODERS[kind, "sealed"], ids)


def test_overlapping_names_are_all_cut() -> None:
    """A name that begins within another one is no way in, and nothing is lost."""
    tokenizer = byte_level()
    tokenizer.add_tokens(["aba", "ab", "bab"])
    encoder = PromptEncoder(TEMPLATES["T1"], tokenizer)
    for text in ("ababab", "aababba", "ab"):
        ids = encoder.text_ids(text)
        assert controls(encoder, ids) == []
        assert tokenizer.decode(ids) == text


def test_added_letters_and_spaces_are_text() -> None:
    """Tokens added only because the vocabulary lacked a letter, or a run of spaces, stay in use."""
    tokenizer = byte_level()
    tokenizer.add_tokens(["你", "    "])
    encoder = PromptEncoder(TEMPLATES["T1"], tokenizer)
    assert encoder.text_ids("你") == [tokenizer.convert_tokens_to_ids("你")]
    assert tokenizer.decode(encoder.text_ids("<s>    你")) == "<s>    你"


@pytest.fixture(scope="module", params=["sealed", "T4"])
def used(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, LMWriter]:
    """A model and the writer that it is."""
    template = TEMPLATES[request.param]
    lm = load_causal_lm(tiny_aligner(tmp_path_factory.mktemp("aligner"), template, context=2048), "cpu")
    return lm.model, writer_of(lm, template, fingerprint="used")


@given(question=QUESTIONS, answer=HOSTILE, correction=st.text(), instruction=INSTRUCTIONS)
@settings(max_examples=15)
def test_training_and_use_read_the_same_prompt(
    used: tuple[Any, LMWriter], question: Question, answer: str, correction: str, instruction: str
) -> None:
    """The ids that a model is given before the draft are those that stood before the correction in training."""
    model, writer = used
    seen: list[list[int]] = []

    def look(_: object, __: object, inputs: dict[str, Any]) -> None:
        seen.extend(inputs["input_ids"].tolist())

    hook = model.base_model.register_forward_pre_hook(look, with_kwargs=True)
    (written,) = writer.write([Exchange(question, answer, instruction=instruction)], SamplingParams(max_tokens=1))
    hook.remove()
    triple = Triple(question, answer, correction, instruction=instruction)
    row = encode_row(writer.encoder, writer.codec.end, triple)
    assert len(seen) == 1
    assert seen[0][: row.prompt_length] == list(row.ids[: row.prompt_length])
    assert tuple(seen[0][row.prompt_length :]) == writer.codec.draft(answer).ids[:1]
    assert written.usage.prompt_tokens == row.prompt_length


def test_a_conversation_is_a_question() -> None:
    """Every turn is written with its role, and one turn of the user is the same as its text."""
    asked = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "Who?"))
    sealed, plain = (PromptEncoder(TEMPLATES[name], BYTE_LEVEL) for name in ("sealed", "T4"))
    assert decoded(sealed.prompt_ids(asked, "Me.")) == (
        "<|question|><|system|>Be kind.<|user|>Hi<|assistant|>Ho<|user|>Who?<|answer|>Me.<|correction|>"
    )
    assert decoded(plain.prompt_ids(asked, "Me.")) == PUBLISHED["T4"].replace(
        "{question}", "system: Be kind.\nuser: Hi\nassistant: Ho\nuser: Who?\n"
    ).replace("{answer}", "Me.")
    assert plain.prompt_ids(as_question([Message("user", "Hi")]), "Ho") == plain.prompt_ids("Hi", "Ho")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["T4", "sealed", "chat"])
def test_bos_stands_once_where_it_is_expected(kind: str, name: str) -> None:
    """BOS comes first, and once, where the tokenizer or its chat template adds it, and never otherwise."""
    tokenizer = KINDS[kind]()
    ids = PromptEncoder(TEMPLATES[name], tokenizer).prompt_ids("<s> is what?", "<s>")
    expected = name == "chat" or kind in ("sentencepiece-bpe", "unigram")
    assert ids.count(tokenizer.bos_token_id) == expected
    assert (ids[0] == tokenizer.bos_token_id) == expected


def test_the_chat_template_is_the_tokenizers_own() -> None:
    """The chat template asks in the base model's format, with what to do in the system message."""
    ids = PromptEncoder(TEMPLATES["chat"], BYTE_LEVEL).prompt_ids("Why?", "So.")
    assert decoded(ids) == (
        f"<s><|im_start|>system\n{TEMPLATES['chat'].system}<|im_end|>\n"
        "<|im_start|>user\n##Question: Why?\n##Answer: So.\n##Correction:<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "chat",
    [
        CHAT.replace("{% for", "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{% for", 1),
        CHAT.replace("in messages", "in messages if m.role != 'system'"),
    ],
    ids=["refuses", "drops"],
)
def test_a_format_without_system_messages_has_it_in_the_users(chat: str) -> None:
    """Where the chat format refuses or drops a system message, the user's message begins with it."""
    tokenizer = byte_level()
    tokenizer.chat_template = chat
    ids = PromptEncoder(TEMPLATES["chat"], tokenizer).prompt_ids("Why?", "So.")
    assert decoded(ids) == (
        f"<s><|im_start|>user\n{TEMPLATES['chat'].system}\n\n"
        "##Question: Why?\n##Answer: So.\n##Correction:<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("chat", ["{{ raise_exception('never') }}", "Hello!"])
def test_a_format_that_takes_no_prompt_is_misuse(chat: str) -> None:
    """A chat format that refuses everything, or leaves the prompt out, is told at once."""
    tokenizer = byte_level()
    tokenizer.chat_template = chat
    with pytest.raises(MisuseError, match="does not go with the tokenizer's chat template; choose T1 to T5"):
        PromptEncoder(TEMPLATES["chat"], tokenizer)


def test_a_tokenizer_without_what_the_template_needs_is_misuse() -> None:
    """Missing control tokens are named, and so is a missing chat template."""
    tokenizer = sentencepiece_bpe()
    tokenizer.chat_template = None
    with pytest.raises(MisuseError, match='template "chat" needs a tokenizer with a chat template; choose T1 to T5'):
        PromptEncoder(TEMPLATES["chat"], tokenizer)
    needy = replace(TEMPLATES["sealed"], controls=("<|question|>", "<|b|>", "<|a|>"))
    with pytest.raises(MisuseError, match=r"needs the control tokens <\|a\|> <\|b\|> in the tokenizer"):
        PromptEncoder(needy, tokenizer)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_known_by_name(name: str) -> None:
    """Every template has the name under which it is found."""
    assert template_named(name).name == name


def test_an_unknown_template_is_told_the_nearest() -> None:
    """A misspelt name is answered with the nearest one and all that there are."""
    with pytest.raises(MisuseError) as caught:
        template_named("seeled")
    assert str(caught.value) == (
        'unknown template "seeled"; did you mean "sealed"? (known: T1, T2, T3, T4, T5, chat, sealed)'
    )


def test_a_checkpoint_keeps_its_template(tmp_path: Path) -> None:
    """A saved template is loaded as it was and used, also when no template of that name is known here."""
    house = Template(name="house", version=7, text="Q{question}A{answer}C", turn="[{role}]{content}", controls=("<s>",))
    folder = tiny_aligner(tmp_path / "house", house)
    assert Card.load(folder).template == house
    writer = load_checkpoint(str(folder), "cpu")
    assert writer.encoder.template == house
    prompt = writer.encoder.prompt_ids((Message("user", "who?"),), "me")
    assert AutoTokenizer.from_pretrained(folder).decode(prompt) == "Q[user]who?AmeC"


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_survives_a_checkpoint(tmp_path: Path, name: str) -> None:
    """What is saved in aligner.json is what is loaded."""
    card = Card(template=TEMPLATES[name], base="b", weights="w", data={}, training={}, measured={}, packages={})
    card.save(tmp_path)
    assert Card.load(tmp_path) == card


def test_an_older_checkpoint_takes_instructions_as_its_template_does_now(tmp_path: Path) -> None:
    """Published words are read as they are now; control tokens that were not learnt, and house templates, are not."""
    house, sealed = (replace(TEMPLATES[name], instructed="") for name in ("T4", "sealed"))
    house = replace(house, text="Q{question}A{answer}C")
    for template, expected in ((TEMPLATES["T4"], TEMPLATES["T4"]), (house, house), (sealed, sealed)):
        Card(template=template, base="b", weights="w", data={}, training={}, measured={}, packages={}).save(tmp_path)
        fields = orjson.loads((tmp_path / "aligner.json").read_bytes())
        del fields["template"]["instructed"], fields["template"]["instruction"]
        (tmp_path / "aligner.json").write_bytes(orjson.dumps(fields))
        assert Card.load(tmp_path).template == expected
    encoder = PromptEncoder(sealed, BYTE_LEVEL)
    with pytest.raises(
        MisuseError, match=r'^this Aligner takes no instruction \(template "sealed"\): train one on rows'
    ):
        encoder.prompt_ids("Why?", "So.", "be brief")
    assert encoder.prompt_ids("Why?", "So.")
