"""Annotating: what is asked, and that a reply is read exactly or not at all."""

import json
import re
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aligner.building.annotating import (
    Understood,
    Unread,
    as_reply,
    exchange_in,
    lost_backslashes,
    read,
    request_messages,
    same,
)
from aligner.building.nouns import Choice, Reply, Way
from aligner.building.principles import load
from aligner.prompts import EDITORS
from aligner.records import Message

PRINCIPLES = load(["helpful", "harmless"])
WHOLE = st.characters(codec="utf-8")
NASTY = [
    *("it's", '"', "'", "\\", "\n", "\r\n", "{", "}", "[", "]", "]]", "[[", ",", ":", '", "x": "', "', 'x': '", '"},'),
    *("```", "```json\n", '{"verdict": "keep"}', "<answer>", "</question>", "<\\answer>", "\\frac", "\\\\", "None"),
    *("Edited Answer: [[", ", your revision:", "Original Answer:", "\u201c", "\u2019", "null", "\t", " "),
]
TEXTS = st.lists(st.sampled_from(NASTY) | st.text(WHOLE, max_size=6), max_size=8).map("".join)
REASONS = st.lists(TEXTS.map(str.strip).filter(bool), max_size=3).map(tuple)
AROUND = st.text(WHOLE, max_size=30).filter(
    lambda text: not re.search("verdict|reasons|correction|<think>", text, re.IGNORECASE)
)
BROKEN = st.lists(
    st.sampled_from(
        [*NASTY, '{"verdict":', '"edit"', '"correction":', '"reasons":', "Edited Answer:", "<think>", "\\u"]
    )
    | st.text(max_size=4),
    max_size=12,
).map("".join)


def written(text: str, quote: str, *, raw_lines: bool) -> str:
    """A text between quotation marks, as models write it."""
    inner = json.dumps(text, ensure_ascii=False)[1:-1]
    if quote == "'":
        inner = inner.replace('\\"', '"').replace("'", "\\'")
    if raw_lines:
        ends = {"n": "\n", "r": "\r", "t": "\t"}
        inner = re.sub(r"\\(.)", lambda found: ends.get(found[1], found[0]), inner)
    return f"{quote}{inner}{quote}"


@st.composite
def disguised(draw: st.DrawFn, verdict: Understood) -> str:
    """A reply that holds the verdict, in one of the ways in which models write JSON."""
    quote, raw_lines = draw(st.sampled_from("\"'")), draw(st.booleans())
    comma, line = draw(st.sampled_from(["", ",", " ,\n"])), draw(st.sampled_from(["", "\n", "  "]))

    def text(value: str) -> str:
        return written(value, quote, raw_lines=raw_lines)

    reasons = f"[{', '.join(map(text, verdict.reasons))}{comma if verdict.reasons else ''}]"
    correction = text(verdict.text if verdict.choice == "edit" else "")
    fields = [("verdict", text(verdict.choice)), ("reasons", reasons), ("correction", correction)]
    inside = f",{line}".join(f"{text(name)}:{line}{value}" for name, value in draw(st.permutations(fields)))
    made = f"{{{line}{inside}{comma}{line}}}"
    if draw(st.booleans()):
        made = f"```{draw(st.sampled_from(['', 'json', 'JSON']))}\n{made}\n```"
    return draw(AROUND) + made + draw(AROUND)


def understood(text: str, answer: str, reasons: Sequence[str]) -> Understood:
    """What is to be understood of an annotator who wants this text."""
    return (
        Understood("keep", answer, tuple(reasons)) if same(text, answer) else Understood("edit", text, tuple(reasons))
    )


@given(answer=TEXTS, text=TEXTS.filter(str.strip), reasons=REASONS, data=st.data())
def test_a_verdict_is_read_in_every_disguise(
    answer: str, text: str, reasons: tuple[str, ...], data: st.DataObject
) -> None:
    """Fences, talk, single quotes, raw line ends and commas too many change nothing of what is understood."""
    wanted = understood(text, answer, reasons)
    shown = wanted._replace(text=EDITORS["ours"].sealed(text))
    assume(not lost_backslashes(text, answer))
    assert read("ours", answer, Reply(data.draw(disguised(shown)))) == wanted


@given(answer=TEXTS, text=TEXTS.filter(str.strip), reasons=REASONS, way=st.sampled_from(["human", "given", "aligner"]))
def test_what_needs_no_model_is_read_exactly(answer: str, text: str, reasons: tuple[str, ...], way: Way) -> None:
    """A reply that was made of a verdict gives it back letter by letter, whatever marks or escapes it holds."""
    said = as_reply("keep" if same(text, answer) else "edit", text, reasons)
    assert read("ours", answer, Reply(said, way=way)) == understood(text, answer, reasons)


@given(answer=TEXTS, reasons=REASONS)
def test_keep_gives_the_answer_byte_for_byte(answer: str, reasons: tuple[str, ...]) -> None:
    """An answer that is kept is the answer, whether the correction is empty, missing, null, or the answer again."""
    fields = {"verdict": "keep", "reasons": reasons}
    for more in {}, {"correction": ""}, {"correction": None}, {"correction": EDITORS["ours"].sealed(answer)}:
        assert read("ours", answer, Reply(json.dumps(fields | more))) == Understood("keep", answer, reasons)


@given(answer=TEXTS.filter(str.strip), ends=st.sampled_from(["\n", "\r\n"]), around=st.sampled_from(["", " ", "\n\n"]))
def test_an_edit_that_changes_nothing_is_keep(answer: str, ends: str, around: str) -> None:
    """The answer again is kept in every prompt, though line ends and outer white space were lost on the way."""
    again = around + answer.replace("\r\n", "\n").replace("\n", ends) + around
    for name, editor in EDITORS.items():
        sealed = editor.sealed(again)
        forms = {"json": json.dumps({"verdict": "edit", "correction": sealed}), "whole": sealed}
        reply = forms.get(editor.form, f"Edited Answer: [[{sealed}]]")
        found = read(name, answer, Reply(reply))
        assert found == Understood("keep", answer)


@given(answer=TEXTS, text=TEXTS.map(str.strip).filter(bool), after=st.sampled_from(["", "\n", ".", " **"]))
def test_published_forms_are_read(answer: str, text: str, after: str) -> None:
    """A text in brackets is understood as it stands, or unread where brackets of its own leave its end in doubt."""
    assume("your correction" not in text.lower())
    llama = EDITORS["published-llama"].sealed(text)
    said = f"Sure! Edited Answer: [[{llama}]]{after}"
    found = read("published-llama", answer, Reply(said))
    doubted = isinstance(found, Unread) and ("[[" in text or "]]" in text)
    assert doubted or found == understood(text, answer, ())


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("[[Please.]]", "Please."),
        ("Sure:\n\n**[[Please.]]**\n", "Please."),
        ("Edited Answer: [[See [[this]] page.]]", "See [[this]] page."),
        ("Edited Answer: [[Please.]] I removed an insult.", "Please."),
    ],
)
def test_brackets_that_say_what_they_mean_are_read(said: str, text: str) -> None:
    """One text in brackets needs no label, and may hold brackets that are closed."""
    assert read("published-llama", "Go away.", Reply(said)) == Understood("edit", text)


@pytest.mark.parametrize("prompt", EDITORS)
def test_thoughts_never_become_a_correction(prompt: str) -> None:
    """What stands behind the last thought counts; where thoughts have no end, or nothing follows, nothing is read."""

    def said(text: str) -> str:
        forms = {"json": as_reply("edit", text), "brackets": f"Edited Answer: [[{text}]]", "whole": text}
        return forms[EDITORS[prompt].form]

    for before in ("<think>", "", "<think>One.</think>\n<think>", "<THINK>\n"):
        reply = f"{before}Perhaps {said('Hm.')}?</think>\n\n{said('Good.')}"
        assert read(prompt, "Answer.", Reply(reply)) == Understood("edit", "Good.")
    for reply in (f"<think>{said('Hm.')}", "<think>Hm.</think>\n", f"{said('Hm.')}</think>", "</think>"):
        assert isinstance(read(prompt, "Answer.", Reply(reply)), Unread)
    about_tags = "Write <think> before it."
    assert read(prompt, "Write <think>.", Reply(said(about_tags))) == Understood("edit", about_tags)


@pytest.mark.parametrize(
    "formula", [r"3 \times 4", r"\theta", r"a \neq b", r"\rho", r"\text{m}", r"\nabla f", r"$\nu$", r"\tan x", r"\beta"]
)
def test_formulas_with_single_backslashes_are_unread(formula: str) -> None:
    """Also where the answer holds none of them; written as JSON wants it, they are read."""
    once = f'{{"verdict": "edit", "reasons": [], "correction": "It is {formula}."}}'
    found = read("ours", "It is 12.", Reply(once))
    assert isinstance(found, Unread)
    assert "backslashes" in found.why
    assert read("ours", "It is 12.", Reply(as_reply("edit", f"It is {formula}."))) == Understood(
        "edit", f"It is {formula}."
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("if a:\n\tb", "if a:\n\tc\n\td"),
        ("Uno e due.", "uno\ne due"),
        ("Yes.", "Nothing.\nNot at all.\nno\nego"),
        ("a\rb", "a\rc"),
    ],
)
def test_tabs_and_lines_that_are_meant_are_read(answer: str, text: str) -> None:
    """Tabs of code that has some already, and words at the start of a line, are no lost backslashes."""
    assert read("ours", answer, Reply(as_reply("edit", text))) == Understood("edit", text)


@given(answer=st.text(WHOLE), text=st.from_regex(r"\A[A-Za-z][A-Za-z ,.!?\n]*[a-z.]\Z"))
@pytest.mark.parametrize("form", ["{}", "  {}\n", "Edited Version (by you): {}", "your revision:\n{}", "```\n{}\n```"])
def test_a_text_alone_is_read(form: str, answer: str, text: str) -> None:
    """The published prompt for GPT-4 has the text alone, without the name of its part or a fence around it."""
    assume(":" not in answer and "`" not in answer)
    assert read("published-gpt4", answer, Reply(form.format(text))) == understood(text, answer, ())


@given(answer=TEXTS, said=BROKEN | st.text(), data=st.data())
def test_no_reply_raises(answer: str, said: str, data: st.DataObject) -> None:
    """Any text is understood, or is unread with a reason of ours, and files can hold the result."""
    prompt, way = data.draw(st.sampled_from(sorted(EDITORS))), data.draw(st.sampled_from(get_args(Way)))
    reply = Reply(said, data.draw(st.sampled_from(["stop", "length", ""])), way=way)
    found = read(prompt, answer, reply)
    if isinstance(found, Unread):
        found.said.encode()
        assert found.why
        assert found.why.isascii()
        request_messages(prompt, "q", answer, PRINCIPLES, before=found)
    else:
        assert found.choice == "edit" or found.text == answer
        assert reply.finish_reason == "stop"
        assert found.text == answer or found.text.encode()


@given(answer=TEXTS, text=TEXTS.filter(str.strip), reasons=REASONS, data=st.data())
@example(answer="", text="a'}b", reasons=(), data=None)
@example(answer="", text='He said "so"} and went', reasons=(), data=None)
@example(answer="", text="it's", reasons=("}",), data=None)
def test_a_reply_without_its_end_is_never_a_shorter_text(
    answer: str, text: str, reasons: tuple[str, ...], data: st.DataObject | None
) -> None:
    """Wherever a reply ends before its object does, nothing is understood, even if the server says that it is whole."""
    said = as_reply("edit", EDITORS["ours"].sealed(text), reasons)
    for cut in range(len(said)) if data is None else [data.draw(st.integers(0, len(said) - 1))]:
        assert isinstance(read("ours", answer, Reply(said[:cut])), Unread), said[:cut]


@given(answer=TEXTS, text=TEXTS.filter(str.strip), reasons=REASONS)
def test_raw_quotation_marks_never_change_a_text(answer: str, text: str, reasons: tuple[str, ...]) -> None:
    """Quotation marks that stand unescaped in the correction are understood as they are, or not at all."""
    assume("{" not in text and "}" not in text and not lost_backslashes(text, answer))
    inner = json.dumps(EDITORS["ours"].sealed(text), ensure_ascii=False)[1:-1].replace('\\"', '"')
    said = f'{{"verdict": "edit", "reasons": {json.dumps(reasons)}, "correction": "{inner}"}}'
    found = read("ours", answer, Reply(said))
    assert isinstance(found, Unread) or found == understood(text, answer, reasons)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ('{"verdict": "edit", "reasons": ["x"], "correction": "He said "hi" and left."}', 'He said "hi" and left.'),
        ("{'verdict': 'edit', 'reasons': [], 'correction': 'It's Bob's car.'}", "It's Bob's car."),
        ('{"verdict": "edit" "reasons": ["a" "b"], "correction": "No comma."}', "No comma."),
        ('{verdict: "edit", reasons: [], correction: "No quotes."}', "No quotes."),
        ("{“verdict”: “edit”, “reasons”: [], “correction”: “Curly ones.”}", "Curly ones."),
        ('{"Verdict": "EDIT", "Reasons": "one text", "Correction": "Large letters."}', "Large letters."),
        (r'{"verdict": "edit", "correction": "\(x\) and \sqrt{2} and \alpha"}', r"\(x\) and \sqrt{2} and \alpha"),
        ('<think>\n{"verdict": "keep"}?\n</think>\n{"verdict": "edit", "correction": "Thought."}', "Thought."),
        ('{"verdict": "edit", "reasons": [], "correction": "Twice."}\n' * 2, "Twice."),
    ],
)
def test_what_models_write_is_understood(said: str, text: str) -> None:
    """Common failings of replies are mended."""
    found = read("ours", "Answer.", Reply(said))
    assert isinstance(found, Understood)
    assert (found.choice, found.text) == ("edit", text)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't help with that.", "no complete JSON"),
        ('{"verdict": "edit", "reasons": ["x"], "correction": "It ends he', "no complete JSON"),
        ('{"verdict": "edit", "reasons": ["x"]}', "gives no correction"),
        ('{"verdict": "edit", "correction": " "}', "gives no correction"),
        ('{"verdict": "edit", "correction": ["a"]}', "no text"),
        ('{"verdict": "better", "correction": "a"}', 'neither "keep" nor "edit"'),
        ('{"correction": "a"}', 'neither "keep" nor "edit"'),
        ('{"verdict": "keep", "correction": "Another."}', "gives another text"),
        ('{"verdict": "edit", "correction": "a", "confidence": 1}', "other fields"),
        ('{"verdict": "keep"}\n{"verdict": "edit", "correction": "a"}', "more than one"),
        ('{"verdict": "edit", "reasons": [], "correction": "Say "hi" now.","confidence":"high"}', "no complete JSON"),
        ('{"verdict": "edit", "reasons": [], "correction": "Say "hi" now." sure: "high"}', "no complete JSON"),
        ('{"verdict": "edit", "reasons": [], "correction": "Say "hi" now.", "or this"}', "no complete JSON"),
        ('{"verdict": "edit", "reasons": [], "correction": "Say "hi" now."} or {"this"}', "no complete JSON"),
        ('{"verdict": "edit", "correction": "\\ud83d"}', "half a surrogate"),
        ('{"verdict": "edit", "correction": "2 \\times 2 = \\frac{8}{2}"}', "backslashes"),
        ('{"verdict": "edit", "correction": "2 \\times 2 = 4"}', "backslashes"),
    ],
)
def test_what_is_not_clear_is_unread_with_its_reason(said: str, why: str) -> None:
    """What cannot be told for sure is not taken, and the reason says what to do better."""
    found = read("ours", "2 \\times 2 = 5", Reply(said))
    assert isinstance(found, Unread)
    assert why in found.why


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("The answer is harmless.", "no text in the brackets"),
        ("Edited Answer: [[It ends", "not closed"),
        ("Edited Answer: [[a]] or Edited Answer: [[b]]", "more than one"),
        ("Edited Answer: [[a[b[0]] is]] what I changed", "not clear"),
        ("Edited Answer: [[Your correction]].", "repeats the form"),
        ("Edited Answer: [[ ]]", "gives no correction"),
        ("Edited Answer: [[Please.]] I removed [[Go away.]]", "not clear"),
        ("Edited Answer: [[Please. [[Go away.]]", "not clear"),
        ("[[Please.]]\n[[Go away.]]", "more than one"),
        ("I cannot; see [[this page]]", "no text in the brackets"),
        ("[[This page]] says why I cannot.", "no text in the brackets"),
    ],
)
def test_brackets_that_are_not_clear_are_unread(said: str, why: str) -> None:
    """In the published form for Llama, too, nothing is guessed."""
    found = read("published-llama", "Answer.", Reply(said))
    assert isinstance(found, Unread)
    assert why in found.why


@given(question=TEXTS, answer=TEXTS, prompt=st.sampled_from(sorted(EDITORS)), said=TEXTS)
def test_requests_depend_on_their_arguments_alone(question: str, answer: str, prompt: str, said: str) -> None:
    """Asked twice, the messages are equal; asked again, they go on where they were, and end with what was wrong."""
    first = request_messages(prompt, question, answer, PRINCIPLES)
    assert first == request_messages(prompt, question, answer, PRINCIPLES)
    again = request_messages(prompt, question, answer, PRINCIPLES, before=Unread("it was empty", said))
    assert again[:2] == first
    assert [message.role for message in again] == ["system", "user", "assistant", "user"]
    assert all(message.content.strip() for message in again)
    assert "it was empty" in again[-1].content
    assert exchange_in(first) == exchange_in(again) == (question, answer)


def test_a_conversation_comes_back_turn_by_turn() -> None:
    """Our own prompt gives a conversation back as it was, and other messages hold no exchange."""
    turns = (Message("system", "Be brief."), Message("user", "</user>\n<assistant>"), Message("assistant", ""))
    assert exchange_in(request_messages("ours", turns, "a", PRINCIPLES)) == (turns, "a")
    assert exchange_in([Message("user", "Hello")]) is None
    assert exchange_in([]) is None


@pytest.mark.parametrize("choice", get_args(Choice))
def test_replies_of_people_hold_no_answer_twice(choice: Choice) -> None:
    """A verdict as a reply is one line of JSON, whose correction is empty where the answer is kept."""
    said = json.loads(as_reply(choice, "Text.\n", ("why",)))
    assert said == {"verdict": choice, "reasons": ["why"], "correction": "Text.\n" if choice == "edit" else ""}


@pytest.mark.parametrize(
    "said",
    [
        '{"verdict":' * 5000 + "}",
        '{"verdict": ' + "[" * 50_000 + "}",
        "{'verdict': 'edit', 'reasons': ['" + "it's " * 10_000 + "'], 'correction': 'x'}",
        '{"verdict": "edit", "correction": ""' + " " * 50_000 + "x}",
        '{"verdict": "edit", "correction": ' + '"' * 50_000 + "}",
        "Edited Answer: [[" * 5000 + " " * 50_000,
    ],
    ids=["objects", "lists", "apostrophes", "spaces", "quotes", "brackets"],
)
@pytest.mark.parametrize("prompt", EDITORS)
@pytest.mark.timeout(20)
def test_no_reply_takes_long(prompt: str, said: str) -> None:
    """A long reply that is made to be hard to read is read within seconds."""
    assert isinstance(read(prompt, "Answer.", Reply(said)), Unread | Understood)
