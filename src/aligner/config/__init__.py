"""One frozen dataclass per verb: its fields are the flags, their defaults and their help.

A value comes from the default, then from the TOML file named by `--config`, then from the flag.
"""

from aligner.config.ablating import AblateConfig, Ablation, AblationRow
from aligner.config.answers import CalibrateConfig, ConvertConfig, CorrectConfig
from aligner.config.building import (
    BuildAgainst,
    BuildAnnotator,
    BuildConfig,
    BuildFilters,
    BuildReview,
    BuildSource,
    BuildSplits,
    BuildUpstream,
)
from aligner.config.evaluating import EvaluateConfig, EvaluatedTask, EvaluatedUpstream
from aligner.config.kinds import Device, GateChoice, LogLevel, Mode, OnBadRow, Role, Telling
from aligner.config.reading import config_of, packaged_config, read_config, read_tables, read_toml
from aligner.config.serving import (
    DoctorConfig,
    ExportConfig,
    GrantConfig,
    ImportConfig,
    NamedAligner,
    NamedUpstream,
    ReportConfig,
    ServeConfig,
)
from aligner.config.stages import (
    CopyingStage,
    CorrectionStage,
    Gate,
    IdentityStage,
    Lora,
    Measuring,
    NewModel,
    OnPolicyStage,
    Optimisation,
    PreferenceStage,
    Rejected,
)
from aligner.config.training import DemoConfig, TrainConfig, TrainJudgeConfig

__all__ = [
    "AblateConfig",
    "Ablation",
    "AblationRow",
    "BuildAgainst",
    "BuildAnnotator",
    "BuildConfig",
    "BuildFilters",
    "BuildReview",
    "BuildSource",
    "BuildSplits",
    "BuildUpstream",
    "CalibrateConfig",
    "ConvertConfig",
    "CopyingStage",
    "CorrectConfig",
    "CorrectionStage",
    "DemoConfig",
    "Device",
    "DoctorConfig",
    "EvaluateConfig",
    "EvaluatedTask",
    "EvaluatedUpstream",
    "ExportConfig",
    "Gate",
    "GateChoice",
    "GrantConfig",
    "IdentityStage",
    "ImportConfig",
    "LogLevel",
    "Lora",
    "Measuring",
    "Mode",
    "NamedAligner",
    "NamedUpstream",
    "NewModel",
    "OnBadRow",
    "OnPolicyStage",
    "Optimisation",
    "PreferenceStage",
    "Rejected",
    "ReportConfig",
    "Role",
    "ServeConfig",
    "Telling",
    "TrainConfig",
    "TrainJudgeConfig",
    "config_of",
    "packaged_config",
    "read_config",
    "read_tables",
    "read_toml",
]
