"""Where the figures of a benchmark go, with what they depend on."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def record(claim: str, figures: Mapping[str, Any]) -> None:
    """Write results/<claim>.json, and print the figures as one line of JSON."""
    context = {"machine": _machine(), "commit": _commit(), "versions": _versions()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{claim}.json").write_text(json.dumps({**figures, **context}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures), flush=True)


def _machine() -> dict[str, Any]:
    return {"processor": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}


def _commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=RESULTS.parent).stdout.strip()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "transformers")}}
