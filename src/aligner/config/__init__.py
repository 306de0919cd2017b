"""One frozen dataclass per verb: its fields are the flags, their defaults and their help.

A value comes from the default, then from the TOML file named by `--config`, then from the flag.
"""

from aligner.config.answers import ConvertConfig, CorrectConfig
from aligner.config.evaluating import EvaluateConfig, EvaluatedTask, EvaluatedUpstream
from aligner.config.kinds import Device, LogLevel, Mode, OnBadRow, Role
from aligner.config.reading import packaged_config, read_config, read_tables
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
    "ConvertConfig",
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
    "TrainConfig",
    "TrainJudgeConfig",
    "packaged_config",
    "read_config",
    "read_tables",
]
