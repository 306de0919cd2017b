"""Answers and corrections that a source gives: nobody is asked for them."""

from aligner.building.nouns import Annotated, Answered, id_of
from aligner.building.sources import Found, Unusable, name_of


def given_answer(found: Found, question: str, *, sample: int) -> Answered | None:
    """The answer in a row, as of an upstream of the source's name; `sample` counts those to one question."""
    if isinstance(found.given, Unusable) or found.given.answer is None:
        return None
    source = name_of(found.source)
    name = id_of("answer", question, source, sample)
    key = id_of("given", name)
    return Answered(
        id=name,
        question=question,
        upstream=source,
        sample=sample,
        key=key,
        text=found.given.answer,
        place=found.place,
    )


def given_correction(found: Found, answered: Answered | None) -> Annotated | None:
    """The correction in a row, as of an annotator of the source's name."""
    if isinstance(found.given, Unusable) or found.given.correction is None or answered is None:
        return None
    source, text = name_of(found.source), found.given.correction
    return Annotated(
        id=id_of("correction", answered.id, source),
        answer=answered.id,
        annotator=source,
        key=answered.key,
        choice="keep" if text == answered.text else "edit",
        text=text,
    )
