"""Values that several verbs take."""

from typing import Literal

OnBadRow = Literal["stop", "skip"]
Device = Literal["auto", "cpu", "cuda"]
GateChoice = Literal["off", "auto"] | float
"""no gate, that of the checkpoint, or a probability that no change is needed"""
Mode = Literal["off", "shadow", "correct", "gate"]
Role = Literal["client", "viewer", "reviewer", "operator"]
Telling = Literal["no", "objectives", "any"]
LogLevel = Literal["debug", "info", "warning", "error"]
