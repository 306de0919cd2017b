"""The one place that knows TRL."""

from aligner.training.adapter.arguments import Fit, Progress
from aligner.training.adapter.fitting import fit
from aligner.training.adapter.preferring import prefer

__all__ = ["Fit", "Progress", "fit", "prefer"]
