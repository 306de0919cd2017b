"""Laws of training a judge of truth: questions stay on one side, bytes repeat, and what is loaded is no code."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from aligner.config import TrainJudgeConfig
from aligner.data.labelled import Labelled, consistent, part_of
from aligner.errors import CheckpointError, InputFileError, MisuseError
from aligner.judge import load_judge
from aligner.judging.features import FEATURES, tokens_of
from aligner.judging.fitting import cross_fit, fit
from aligner.judging.truth import Classifier, TruthJudge
from aligner.scoring.calibration import brier, calibration_error
from aligner.train_judge import split_by_question, summary, train_judge


def labelled_rows(questions: int = 60) -> list[Labelled]:
    """Made-up answers of which careful ones are mostly true."""
    random, made = Random(0), list[Labelled]()
    for number in range(questions):
        question = f"Does {random.choice('salt milk iron gold wine'.split())} number {number} help the heart?"
        for i in range(5):
            careful = random.random() < 0.5
            words = "There is no proof that it does" if careful else "Yes, it surely cures the heart"
            made.append(Labelled(question, f"{words}, in {1900 + i}.", careful == (random.random() < 0.9)))
    return made


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder of two files, one of each form, with a doublet and a contradiction between them."""
    folder, found = tmp_path / "labelled", labelled_rows()
    folder.mkdir()
    plain = [{"question": row.question, "answer": row.answer, "label": row.is_true} for row in found[:200]]
    prompts = [
        {"prompt": f"Q: {row.question}\nA: {row.answer}\nTrue:", "completion": " yes" if row.is_true else " no"}
        for row in [*found[200:], found[0], found[1]._replace(is_true=not found[1].is_true)]
    ]
    for name, lines in (("a.jsonl", plain), ("b.jsonl", prompts)):
        (folder / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return folder


def test_a_judge_is_trained_measured_and_used(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card tells data and held-out figures, the folder is the judge, and the same input makes the same bytes."""
    trained = [train_judge(TrainJudgeConfig(labelled=labelled, out=tmp_path / name)) for name in ("one", "two")]
    for name in ("judge.json", "weights.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    card: Any = orjson.loads((tmp_path / "one" / "judge.json").read_bytes())
    data, measured = card["data"], card["measured"]
    assert (data["answers"], data["doublets"], data["contradictions"]) == (299, 1, 1)
    assert data["training"]["questions"] + data["held_out"]["questions"] == 60
    assert measured["answers"] == data["held_out"]["answers"]
    assert measured["gain"]["value"] > 0.2
    assert summary(measured) in capsys.readouterr().err
    loaded = TruthJudge.load(tmp_path / "one")
    asked = "Does salt number 3 help the heart?", "There is no proof that it does, in 1901."
    assert loaded.probability(*asked) == trained[0].probability(*asked) > 0.5
    judge = load_judge(f"truth:{tmp_path / 'one'}")
    assert judge.name == f"truth:one@{card['weights'][:8]}"
    assert judge.about == card
    verdict = asyncio.run(judge.compare(asked[0], "Yes, it surely cures the heart, in 1901.", asked[1], "honest"))
    assert verdict.winner == "b"


@pytest.mark.parametrize("features", FEATURES)
def test_the_plain_classifier_is_that_of_scikit_learn(features: str) -> None:
    """Scores from the kept weights are the decision function of the fitted pipeline."""
    found = labelled_rows(20)
    classifier = fit(found, features)
    pipeline_start: Any = TfidfVectorizer
    vectorizer = pipeline_start(analyzer=list, min_df=3, sublinear_tf=True)
    tokens = [tokens_of(features, row.question, row.answer) for row in found]
    model: Any = LogisticRegression(solver="liblinear", random_state=0)
    model.fit(vectorizer.fit_transform(tokens), [row.is_true for row in found])
    others = [("What?", ""), ("Does it help?", "Nobody knows. I do not."), found[0][:2]]
    expected = model.decision_function(vectorizer.transform([tokens_of(features, *pair) for pair in others]))
    assert [classifier.score(*pair) for pair in others] == pytest.approx(expected.tolist())


@given(st.lists(st.builds(Labelled, st.sampled_from("abcdefgh"), st.sampled_from("xyz"), st.booleans())), st.integers())
def test_no_question_is_on_both_sides(found: Sequence[Labelled], seed: int) -> None:
    """All answers to a question are learnt from or held out, and no answer is there twice or with both labels."""
    clean = consistent(found)
    assert len({row[:2] for row in clean.rows}) == len(clean.rows)
    both = {row[:2] for row in found if row._replace(is_true=not row.is_true) in found}
    assert both.isdisjoint({row[:2] for row in clean.rows})
    assert clean.contradictions == len(both)
    assert len(found) == len(clean.rows) + clean.doublets + sum(row[:2] in both for row in found)
    try:
        split = split_by_question(clean.rows, 3, seed=seed)
    except MisuseError:
        return
    sides = [{row.question for row in side} for side in split]
    assert sides[0].isdisjoint(sides[1])
    assert len(split.training) + len(split.held_out) == len(clean.rows)


@given(st.text(), st.text())
def test_any_text_has_a_probability(question: str, answer: str) -> None:
    """No text makes the judge fail or leave the range from 0 to 1, and a token that it does not know says nothing."""
    tokens = {"said no": (2.0, 1e6), "form negates True False": (1.0, -3.0)}
    classifier = Classifier(features="form+words+question", tokens=tokens, bias=0.5, slope=-1e9)
    assert 0 <= classifier.probability(question, answer) <= 1


def test_cross_fitting_never_asks_who_has_seen_the_question() -> None:
    """A question's judge is another one than that which learns from it: a lie about one question does not reach it."""
    found = labelled_rows(30)
    question = found[0].question
    lied = [row._replace(is_true=not row.is_true) if row.question == question else row for row in found]
    honest, misled = (cross_fit(rows, folds=2, seed=0) for rows in (found, lied))
    assert [honest.probability(*row[:2]) for row in found[:5]] == [misled.probability(*row[:2]) for row in found[:5]]
    other = next(row for row in found if part_of(row.question, 2, seed=0) != part_of(question, 2, seed=0))
    assert honest.probability(*other[:2]) != misled.probability(*other[:2])


def test_calibration_by_its_laws() -> None:
    """Probabilities that come true as often as they say have no error; a constant is off by what it is off."""
    outcomes = [True] * 3 + [False] * 7
    assert calibration_error([0.3] * 10, outcomes).value == pytest.approx(0)
    assert calibration_error([0.5] * 10, outcomes).value == pytest.approx(0.2)
    assert calibration_error([1.0] * 3 + [0.0] * 7, outcomes) == (0, 0, 0)
    assert brier([0.5] * 10, outcomes) == (0.25, 0.25, 0.25)
    apart = calibration_error([0.3] * 10, outcomes, list("aaabbbcccc"))
    assert apart.low <= 0.3 <= apart.high
    with pytest.raises(ValueError, match="no probabilities"):
        calibration_error([], [])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": "q", "answer": 7, "label": true}', '"answer" is not text'),
        ('{"question": "q", "answer": "a", "label": 2}', '"label" is neither yes nor no'),
        ('{"question": "q", "answer": "a"}', '"label" is neither'),
        ('{"prompt": "What?", "completion": " no"}', '"prompt" is not like'),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """File, line and what is wrong with it."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "q", "answer": "", "label": "No"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputFileError, match=rf"rows\.jsonl:2: {problem}"):
        train_judge(TrainJudgeConfig(labelled=path, out=tmp_path / "out"))


def test_too_little_to_learn_from_is_misuse(tmp_path: Path) -> None:
    """An empty folder, one question, and answers that are all true are refused in one line each."""
    with pytest.raises(MisuseError, match="holds no"):
        train_judge(TrainJudgeConfig(labelled=tmp_path, out=tmp_path / "out"))
    with pytest.raises(MisuseError, match="1 questions are too few"):
        split_by_question(labelled_rows(1), 5, seed=0)
    with pytest.raises(MisuseError, match="only one kind"):
        fit([row._replace(is_true=True) for row in labelled_rows(3)], "form")
    with pytest.raises(MisuseError, match="2 answers are too few"):
        fit([Labelled("q", "a", is_true=True), Labelled("r", "b", is_true=False)], "words")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("judge.json", None, "not a truth judge, it has no judge.json"),
        ("weights.json", b"{", "damaged"),
        ("weights.json", b'{"features": "form", "tokens": {"a": 1}, "bias": 0, "slope": 1, "offset": 0}', "damaged"),
        ("weights.json", b'{"features": "new", "tokens": {}, "bias": 0, "slope": 1, "offset": 0}', "not known"),
        ("judge.json", b"{}", "damaged"),
    ],
)
def test_a_damaged_judge_is_one_clear_line(tmp_path: Path, name: str, text: bytes | None, problem: str) -> None:
    """A folder without a whole judge is told with its name, and is never run."""
    classifier = Classifier(features="form", tokens={}, bias=0.0)
    TruthJudge(classifier, {"measured": {"calibration_error": {"value": 0.1}}, "weights": "x"}).save(tmp_path)
    assert TruthJudge.load(tmp_path).classifier == classifier
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(CheckpointError, match=problem) as caught:
        TruthJudge.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_real_file_gives_a_judge_that_beats_the_majority(real_data: Path, tmp_path: Path) -> None:
    """On unseen questions it is right at least 8 points more often, it is calibrated, and it loads in a second."""
    judge = train_judge(TrainJudgeConfig(labelled=real_data / "truthfulqa_judge", out=tmp_path))
    assert judge.card["data"]["contradictions"] == 27
    assert judge.card["data"]["training"]["questions"] + judge.card["data"]["held_out"]["questions"] == 817
    assert judge.card["measured"]["gain"]["low"] >= 0.08
    assert judge.card["measured"]["without_commonest"]["gain"]["low"] >= 0.08
    assert judge.card["measured"]["calibration_error"]["value"] <= 0.05
    start = time.process_time()
    assert TruthJudge.load(tmp_path) == judge
    assert time.process_time() - start < 1
