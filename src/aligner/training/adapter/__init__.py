"""The one place that knows TRL."""

from aligner.training.adapter.fitting import Fit, Progress, fit

__all__ = ["Fit", "Progress", "fit"]
