"""How the truth judge learns: features chosen and curve fitted by cross-validation over questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
from scipy.special import expit

from aligner.data.labelled import Labelled, part_of
from aligner.errors import MissingExtraError, MisuseError
from aligner.judging.features import FEATURES, tokens_of
from aligner.judging.truth import Classifier

try:
    from sklearn import metrics
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
except ModuleNotFoundError as error:
    raise MissingExtraError("training a judge needs an extra: pip install 'aligner-llm[evaluate]'") from error

_RAREST = 3
"""answers that a token has to stand in"""
FOLDS = 4


def _nothing() -> None:
    return None


class Fitted(NamedTuple):
    """A classifier, and how each set of features did on questions that it had not learnt from."""

    classifier: Classifier
    losses: Mapping[str, float]
    """mean log loss by set of features"""


def choose_and_fit(
    rows: Sequence[Labelled], *, folds: int = FOLDS, seed: int = 0, on_fit: Callable[[], object] = _nothing
) -> Fitted:
    """The classifier with the features that do best across folds of questions, calibrated on what these held out."""
    scores = {features: _held_out_scores(rows, features, folds, seed, on_fit) for features in FEATURES}
    outcomes = np.array([row.is_true for row in rows])
    curves = {features: _curve(found, outcomes) for features, found in scores.items()}
    losses = {features: _log_loss(curves[features], found, outcomes) for features, found in scores.items()}
    best = min(FEATURES, key=losses.__getitem__)
    return Fitted(replace(fit(rows, best), slope=curves[best].slope, offset=curves[best].offset), losses)


def fit(rows: Sequence[Labelled], features: str) -> Classifier:
    """A classifier without calibration; raises MisuseError for rows that all have one label, or no common token."""
    if len({row.is_true for row in rows}) < 2:
        raise MisuseError("a judge learns from true and from false answers: there is only one kind of them")
    vectorizer = cast("Any", TfidfVectorizer)(analyzer=_as_they_are, min_df=_RAREST, sublinear_tf=True)
    try:
        matrix = vectorizer.fit_transform([tokens_of(features, row.question, row.answer) for row in rows])
    except ValueError:
        raise MisuseError(f"{len(rows):,} answers are too few to learn from") from None
    model = cast("Any", LogisticRegression)(solver="liblinear", random_state=0)
    model.fit(matrix, [row.is_true for row in rows])
    weights: Sequence[float] = model.coef_[0].tolist()
    rarity: Sequence[float] = vectorizer.idf_.tolist()
    names: Sequence[str] = vectorizer.get_feature_names_out().tolist()
    tokens = {name: (rare, weight) for name, rare, weight in zip(names, rarity, weights, strict=True)}
    return Classifier(features=features, tokens=tokens, bias=float(model.intercept_[0]))


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """For scoring the very questions that there are labels for: each part has a classifier that learnt from the others.

    A question that none has learnt from is judged by one of them.
    """

    parts: Sequence[Classifier]
    seed: int

    def probability(self, question: str, answer: str) -> float:
        """That the answer is true, by the classifier that has not seen its question."""
        return self.parts[part_of(question, len(self.parts), seed=self.seed)].probability(question, answer)


def cross_fit(
    rows: Sequence[Labelled], *, folds: int = 5, seed: int = 0, on_fit: Callable[[], object] = _nothing
) -> CrossFitted:
    """Classifiers that each choose, learn and calibrate without one part of the questions."""
    parts = [[row for row in rows if part_of(row.question, folds, seed=seed) != part] for part in range(folds)]
    return CrossFitted([choose_and_fit(part, seed=seed, on_fit=on_fit).classifier for part in parts], seed)


class _Curve(NamedTuple):
    slope: float
    offset: float


def _held_out_scores(
    rows: Sequence[Labelled], features: str, folds: int, seed: int, on_fit: Callable[[], object]
) -> Any:
    """The score of each row by a classifier that has not seen its question."""
    scores = np.zeros(len(rows))
    parts = [part_of(row.question, folds, seed=f"{seed} folds") for row in rows]
    for part in range(folds):
        classifier = fit([row for row, its in zip(rows, parts, strict=True) if its != part], features)
        for place, row in enumerate(rows):
            if parts[place] == part:
                scores[place] = classifier.score(row.question, row.answer)
        on_fit()
    return scores


def _curve(scores: Any, outcomes: Any) -> _Curve:
    model = cast("Any", LogisticRegression)(C=1e6).fit(scores[:, None], outcomes)
    return _Curve(float(model.coef_[0, 0]), float(model.intercept_[0]))


def _log_loss(curve: _Curve, scores: Any, outcomes: Any) -> float:
    return float(cast("Any", metrics).log_loss(outcomes, expit(curve.slope * scores + curve.offset)))


def _as_they_are(tokens: Sequence[str]) -> Sequence[str]:
    return tokens
