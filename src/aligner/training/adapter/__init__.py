"""The one place that knows TRL."""

from aligner.training.adapter.arguments import Fit, Progress
from aligner.training.adapter.fitting import fit
from aligner.training.adapter.preferring import Preferring, prefer
from aligner.training.adapter.reinforcing import reinforce
from aligner.training.adapter.rewarding import check_rewardable, fit_reward, reward_accuracy, rewards_of
from aligner.training.adapter.unpaired import prefer_unpaired

__all__ = [
    "Fit",
    "Preferring",
    "Progress",
    "check_rewardable",
    "fit",
    "fit_reward",
    "prefer",
    "prefer_unpaired",
    "reinforce",
    "reward_accuracy",
    "rewards_of",
]
