"""A small truth judge: a logistic classifier over tokens of question and answer, kept as JSON."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import log, sqrt, tanh
from pathlib import Path
from typing import Any, Self, cast

import orjson

from aligner.errors import CheckpointError
from aligner.files import write_json_atomic
from aligner.judging.features import FEATURES, tokens_of

CARD, WEIGHTS = "judge.json", "weights.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Weights of tokens, and the curve that makes a probability of their sum."""

    features: str
    """the set of features that it sees (`features.FEATURES`)"""
    tokens: Mapping[str, tuple[float, float]] = field(repr=False)
    """from token to how rare it is (idf) and its weight"""
    bias: float
    slope: float = 1.0
    """of the logistic curve that makes a probability of a score (Platt, 1999)"""
    offset: float = 0.0

    def score(self, question: str, answer: str) -> float:
        """The weighted sum of the tokens, each by tf-idf, in a vector of length 1."""
        counts = Counter(token for token in tokens_of(self.features, question, answer) if token in self.tokens)
        total = squares = 0.0
        for token, count in counts.items():
            idf, weight = self.tokens[token]
            value = (1 + log(count)) * idf
            total += value * weight
            squares += value * value
        return self.bias + (total / sqrt(squares) if squares else 0.0)

    def probability(self, question: str, answer: str) -> float:
        """That the answer is true."""
        return (1 + tanh((self.slope * self.score(question, answer) + self.offset) / 2)) / 2

    @property
    def fingerprint(self) -> str:
        """A hash that is another one for another classifier."""
        return sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class TruthJudge:
    """A classifier with its card: how it came to be, and how right it was on questions that it had not seen."""

    classifier: Classifier
    card: Mapping[str, Any]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error on held-out questions."""
        return float(self.card["measured"]["calibration_error"]["value"])

    @property
    def fingerprint(self) -> str:
        """Eight letters that are others for another judge."""
        return str(self.card["weights"])[:8]

    def probability(self, question: str, answer: str) -> float:
        """That the answer is true."""
        return self.classifier.probability(question, answer)

    def save(self, folder: Path) -> None:
        """Write weights and card; a folder with a card is whole."""
        (folder / CARD).unlink(missing_ok=True)
        write_json_atomic(folder / WEIGHTS, asdict(self.classifier))
        write_json_atomic(folder / CARD, self.card)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The judge in a folder; nothing in it is code. Raises CheckpointError where there is none, or no whole one."""
        try:
            card, weights = (cast("dict[str, Any]", orjson.loads((folder / name).read_bytes())) for name in _FILES)
            tokens = {str(token): (float(idf), float(weight)) for token, (idf, weight) in weights["tokens"].items()}
            numbers = {name: float(weights[name]) for name in ("bias", "slope", "offset")}
            if weights["features"] not in FEATURES:
                raise ValueError(f"its features {weights['features']} are not known")  # noqa: TRY301
            judge = cls(Classifier(features=weights["features"], tokens=tokens, **numbers), card)
            judge.calibration_error  # noqa: B018  # a card without its figures is none
        except FileNotFoundError as error:
            cure = "such a folder is what `aligner train-judge` makes"
            raise CheckpointError(
                f"{folder}: not a truth judge, it has no {Path(error.filename).name}; {cure}"
            ) from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{folder}: a damaged judge, or one of another version: {error}") from error
        return judge


_FILES = (CARD, WEIGHTS)
