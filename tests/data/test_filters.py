"""Laws of filters: each finds its own, sound rows pass all of them, and every reason comes with a detail."""

import os
from dataclasses import replace
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligner.config.building import BuildFilters
from aligner.data.filters import Look, about_tokens, first, question_filters, triple_filters
from aligner.data.readers import Given, giver_named
from aligner.data.tabular import read
from aligner.files import bad_rows_named
from aligner.records import Message, Question

QUESTIONS = question_filters(BuildFilters())
TRIPLES = triple_filters(BuildFilters(), about_tokens)
SOUND = Look(
    question="What is the capital of Norway, and why was it called Christiania?",
    answer="The capital of Norway is Bergen. It was named for King Christian, who rebuilt the town.",
    correction="The capital of Norway is Oslo. It was named for King Christian IV, who rebuilt the town after a fire.",
)
LONG = " ".join(f"The town of Oslo has {i} streets and {i + 7} lanes." for i in range(40))


# ---- questions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("?!", "no_words"),
        ("ok", "too_short"),
        ("好", "too_short"),
        ("+2-", "too_short"),
        ("So it is.</s>", "markup"),
        ("word " * 2000, "too_long"),
        ("a\x00b c d", "broken"),
        ("half a letter \ud800", "broken"),
        ("caf\ufffd in Paris", "broken"),
        ("<|im_start|>user what is it", "markup"),
        ("[INST] do it [/INST]", "markup"),
        ("What is it?\n\n### Response:\nIt is", "markup"),
        ("Hello\n\nAssistant: hi there", "markup"),
        ("Answer this: {{question}}", "placeholder"),
        ("Translate {input} into French", "placeholder"),
        ("[insert your question here]", "placeholder"),
        ("tell me about it again and again " * 20, "repetition"),
        ((Message("system", "be kind"), Message("user", "...")), "no_words"),
        ((Message("user", "<|im_end|>"), Message("assistant", "what?"), Message("user", "go on, please")), "markup"),
    ],
)
def test_unusable_questions_are_dropped_with_their_reason(question: Question, reason: str) -> None:
    """Each kind of question that nobody would ask has a name of its own."""
    found = first(QUESTIONS, question)
    assert found is not None
    assert found[0] == reason
    assert found[1]


@pytest.mark.parametrize(
    "question",
    [
        "2+2?",
        "2 \u00d7 3",
        "12+12?",
        "你好",
        "How do I style <input> in CSS, and what is <question> in my XML?",
        "What does {{ user }} do in Jinja, and {text} in Python?",
        "Why does print(f'{input}') fail, and '{question}'.format(x) does not?",
        "What is [insert sort]? Is it like `[insert your name]` in a template?",
        "Read [your question](https://example.com/faq) and say what is in it",
        "What is lorem ipsum?",
        "What does </s> in XML mean, and <s>this</s>?",
        "## Answer the following\n\nWhat is ```[INST]``` for?",
        "Wie spät ist es?",
        "你好吗\uff1f",
        "Fix this:\n```python\nfor i in range(10):\n    print(f'{i}')\n```",
        "What does <b>bold</b> do in HTML, and {} in Python?",
        "Sort 3, 1, 2, 5, 4, 9, 8, 7, 6, 0, 12, 11, 10",
        (Message("system", ""), Message("user", "hi there")),
        (Message("user", "Shall I?"), Message("assistant", "Are you sure?"), Message("user", "!")),
        (Message("user", "why?"), Message("assistant", "<|im_end|>"), Message("user", "because?")),
    ],
)
def test_real_questions_pass(question: Question) -> None:
    """Short ones, other scripts, code, lists and conversations are questions."""
    assert first(QUESTIONS, question) is None


# ---- triples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "opening",
    [
        "Here is the corrected answer:\n",
        "Sure! Here's a revised version of the response: ",
        "Certainly, here is my edited answer.\n\n",
        "Corrected answer: ",
        "**Edited Version (by you):** ",
        "Correction: ",
        "##Correction: ",
        "Edited Answer: ",
        "I have edited the answer so that it is right. ",
        "I've made a few minimal changes to be accurate. ",
        "No changes are needed. ",
        "The original answer was wrong about the capital. ",
        '{"verdict": "edit", "correction": "',
        '```json\n{ "reasons": []}\n```\n',
        "<|assistant|> ",
    ],
)
def test_words_about_the_correction_are_meta_text(opening: str) -> None:
    """What is said about the correction before it is no part of it; where the answer says it too, it is no fault."""
    look = replace(SOUND, correction=opening + SOUND.correction)
    found = first(TRIPLES, look)
    assert found is not None
    assert found[0] == "meta_text"
    assert first(TRIPLES, replace(look, answer=look.correction)) is None


@pytest.mark.parametrize(
    "closing",
    [
        "\n\nNote: I have changed the name of the capital.",
        "\n\nExplanation: the original answer named the wrong town.",
        "\n\n**Changes made:** the name of the capital.",
        "\n\nEdits: Some changes made to the first sentence.",
    ],
)
def test_words_behind_the_correction_are_meta_text(closing: str) -> None:
    """A list of what was changed is no part of the correction either."""
    found = first(TRIPLES, replace(SOUND, correction=SOUND.correction + closing))
    assert found is not None
    assert found[0] == "meta_text"


@pytest.mark.parametrize(
    "text",
    [
        "Here is a list of the towns of Norway: Oslo, Bergen, Trondheim and Stavanger, and there are many more.",
        "The answer is 42, which is good to know before you begin to read the rest of this text about it.",
        "Note: the town was called Kristiania from 1877, and only since 1925 it is called Oslo again, as before.",
        "The revised edition of the atlas shows Oslo as the capital of Norway since 1814, with all of its districts.",
        "## Answer\n\nOslo is the capital of Norway, and it was called Christiania after the fire of the year 1624.",
        "I made a mistake in my first year in Norway: I took Bergen for the capital, but Oslo is the capital there.",
        "I'm sorry, but I can't help with that request, because it would do harm to other people in the town.",
        "[[1, 2], [3, 4]]\n\nis the matrix that you asked for, and its determinant is minus two, as you can see.",
    ],
)
def test_corrections_that_only_sound_like_it_pass(text: str) -> None:
    """Lists, notes, headings, and refusals of what the question asks for are corrections."""
    assert first(TRIPLES, replace(SOUND, correction=text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't edit this answer.",
        "I cannot assist with revising that response, as it is harmful.",
        "I am unable to correct the given answer.",
        "As an answer editor, I can\u2019t do that.",
        "I won't rewrite it.",
    ],
)
def test_refusals_to_edit_are_dropped(text: str) -> None:
    """An annotator that refuses its task gave no correction."""
    found = first(TRIPLES, replace(SOUND, correction=text))
    assert found is not None
    assert found[0] == "refusal"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finish_reason": "length"}, "cut_off"),
        (
            {"correction": "It is Oslo, and the king was [insert name], who rebuilt it after a fire."},
            "placeholder",
        ),
        ({"correction": "It is Oslo. [Your correction] It was named for King Christian IV, as said."}, "placeholder"),
        (
            {"correction": "It is Oslo:\n```python\nprint('Oslo')\n and that is all that there is to say."},
            "code_fences",
        ),
        ({"correction": "It is Oslo. " + "It is a town. " * 12}, "repetition"),
        ({"answer": LONG, "correction": LONG[:100]}, "length_ratio"),
        ({"correction": LONG}, "length_ratio"),
        (
            {"correction": "Die Hauptstadt ist Oslo. Sie ist nach dem König Christian benannt, der sie nicht sah."},
            "language",
        ),
        ({"tokens": 3000}, "too_long"),
        ({"correction": "It is Oslo \udc80, named for King Christian IV, who rebuilt it after a fire."}, "broken"),
    ],
)
def test_unusable_corrections_are_dropped_with_their_reason(changes: dict[str, object], reason: str) -> None:
    """Each kind of correction that teaches nothing good has a name of its own."""
    found = first(TRIPLES, replace(SOUND, **changes))
    assert found is not None
    assert found[0] == reason
    assert found[1]


@pytest.mark.parametrize(
    ("question", "answer", "correction"),
    [
        ("Which pranks can I play on my brother?", LONG[:990], "Would you like to tell me why you want to do that?"),
        ("Is it so?", "Yes.", LONG[:990]),
        (
            "Please rewrite this sentence: he go home",
            "He go home today.",
            "Here is the rewritten sentence: He goes home.",
        ),
        ("Fix the grammar of my text: he go home", "He go.", "Corrected version:\nHe goes home."),
        ("What is 2 + 2?", "It is 5.", "Final answer: 4"),
        ("Can you edit my passport photo?", "Yes, of course.", "I'm sorry, I can't edit a passport photo for you."),
        ("Write an e-mail to my boss.", "Dear boss, hello.", "Dear [Name],\nI am ill today.\nYours, [Your Name]"),
        ("What is the error with this code: x = = 1", "It is x.", "Here is the corrected code:\n\n    x = 1"),
        ("What is wrong: x = = 1", "It is x.", "The second sign is wrong.\n\n## Corrected Code\n\n    x = 1"),
        ("Which Super Bowl was played in 1996?", "XXIX", "It was Super Bowl XXX."),
        ("How do I loop?", "Like so.", "Like so:\n```python\nfor x in y:  # TODO\n    print('{{ question }}', x)\n```"),
        ("Is there a guide?", "Yes.", "Yes: [Your Guide](https://example.com/guide) is the one that you want."),
        ("How do I show a user?", "With a slot.", "Write {{ user }} in Jinja, `{{ question }}` or print(f'{answer}')."),
        ("What is HTML's s?", "A tag.", "It strikes text through, as <s>here</s>, and ends with the tag </s> in XML."),
    ],
)
def test_what_only_looks_unusable_passes(question: str, answer: str, correction: str) -> None:
    """Short replies, edits that were asked for, code and links are no faults."""
    assert first(TRIPLES, Look(question=question, answer=answer, correction=correction)) is None


def test_marks_of_the_prompt_are_found_where_editing_was_asked_for() -> None:
    """A question about a text excuses words about changes, not the form of an annotator's reply."""
    for mark in ("##Correction: ", '{"verdict": "edit", "correction": "', "<|assistant|> "):
        look = replace(SOUND, question="Please rewrite it", correction=mark + SOUND.correction)
        assert (first(TRIPLES, look) or [""])[0] == "meta_text"


def test_sound_triples_and_unchanged_ones_pass() -> None:
    """An answer that is kept word for word is an identity row, and no reason to drop it."""
    assert first(TRIPLES, SOUND) is None
    assert first(TRIPLES, replace(SOUND, correction=SOUND.answer)) is None


def test_languages_that_the_question_names_may_differ() -> None:
    """A translation is in another language than its question."""
    french = "Le train est dans la gare, et il est possible de le voir sur le pont avec les autres, qui sont là."
    look = replace(
        SOUND, question="Say it in French, please: the train is in the station.", answer=french, correction=french
    )
    assert first(TRIPLES, look) is None
    assert (
        first(TRIPLES, replace(look, question="Translate the sentence to the language that is spoken in Paris."))
        is None
    )
    found = first(TRIPLES, replace(look, question="Where is the train that I can see from the bridge?"))
    assert found is not None
    assert found[0] == "language"
    off = triple_filters(BuildFilters(language="off"), about_tokens)
    assert first(off, replace(look, question="Where is the train that I can see from the bridge?")) is None


def test_another_script_is_another_language() -> None:
    """A script tells even where no word of the question is known."""
    look = replace(
        SOUND, question="Bergen, Kristiansand, Stavanger?", correction="奥斯陆是挪威的首都。国王重建了这座城市。" * 3
    )
    assert TRIPLES["language"](look)
    assert TRIPLES["language"](replace(look, question="Oslo (中文)?")) is None


def test_blanks_that_were_asked_for_are_none() -> None:
    """A draft of a letter has blanks in question or answer, and keeps them."""
    letter = "Dear [Your Name], thank you for your letter of Monday. We will answer it soon. Yours, [Your Name]"
    assert first(TRIPLES, replace(SOUND, answer=letter, correction=letter + " and Co.")) is None


def test_closed_blocks_of_code_pass() -> None:
    """Blocks may hold fences that are shorter, and another kind of fence."""
    code = "Like this, as you can see here:\n````md\n```\nx\n```\n````\n\n~~~\ny ``` z\n~~~\nand that is all there is."
    assert first(TRIPLES, replace(SOUND, correction=code)) is None


def test_tokens_are_counted_only_where_they_are_not_known() -> None:
    """The real count goes before; a counter is asked for prompt and correction together."""
    asked = []

    def count(*texts: object) -> int:
        asked.append(texts)
        return 2049

    filters = triple_filters(BuildFilters(), count)
    assert first(filters, SOUND) == ("too_long", "2049 tokens")
    assert asked == [(SOUND.question, SOUND.answer, SOUND.correction)]
    assert first(filters, replace(SOUND, tokens=2048)) is None


@settings(deadline=None, max_examples=200)
@given(question=st.text(min_size=1), answer=st.text(), correction=st.text())
def test_any_text_can_be_filtered(question: str, answer: str, correction: str) -> None:
    """Whatever a model wrote, filters say a reason that is one of theirs, with a detail, or nothing."""
    look = Look(question=question, answer=answer, correction=correction)
    for found, names in ((first(QUESTIONS, question), {*QUESTIONS}), (first(TRIPLES, look), {*TRIPLES})):
        assert found is None or (found[0] in names and found[1])


@pytest.mark.parametrize(
    "piece",
    "a| |\n|\n\n|[|{{|i can't |here is the |```\n|```a\n|~~~|`a|f'|'|fix |fix a |[insert |##|[[|note |i have |1+".split(
        "|"
    ),
)
def test_hostile_texts_take_no_long_time(piece: str) -> None:
    """A text of many of anything is filtered within a second."""
    text = piece * (30_000 // len(piece))
    start = process_time()
    for examine_question in QUESTIONS.values():
        examine_question(text)
    for examine in TRIPLES.values():
        examine(replace(SOUND, correction=text))
    assert process_time() - start < 5


@pytest.mark.realdata
@pytest.mark.skipif("ALIGNER_REAL_DATA" not in os.environ, reason="needs the folder that ALIGNER_REAL_DATA names")
@pytest.mark.parametrize(
    ("path", "name", "short"),
    [
        ("hh_rlhf/harmless-base_test.jsonl.gz", "hh-rlhf", 0.015),
        ("truthfulqa/TruthfulQA.csv", "truthfulqa", 0.0),
    ],
)
def test_real_triples_pass_but_for_their_lengths(tmp_path: Path, path: str, name: str, short: float) -> None:
    """What people wrote is hardly ever meta text, a refusal to edit, a loop, or in another language."""
    file = Path(os.environ["ALIGNER_REAL_DATA"]) / path
    bad_rows = bad_rows_named("skip", tmp_path / "out")
    rows = [
        given for _, given in read(file, giver_named(name, "triples"), bad_rows=bad_rows) if isinstance(given, Given)
    ]
    looks = [Look(question=row.question, answer=row.answer or "", correction=row.correction or "") for row in rows]
    dropped = [found[0] for look in looks if (found := first(TRIPLES, look))]
    assert dropped.count("length_ratio") <= short * len(rows)
    assert len(dropped) - dropped.count("length_ratio") <= 0.002 * len(rows)
    assert sum(first(QUESTIONS, row.question) is not None for row in rows) <= 0.002 * len(rows)
