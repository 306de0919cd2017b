"""Values that several verbs take."""

from typing import Literal

OnBadRow = Literal["stop", "skip"]
Device = Literal["auto", "cpu", "cuda"]
Mode = Literal["off", "shadow", "correct", "gate"]
Role = Literal["client", "viewer", "reviewer", "operator"]
LogLevel = Literal["debug", "info", "warning", "error"]
