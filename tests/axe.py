"""axe-core, the accessibility checker, fetched by npm once into .venvs; it is neither committed nor shipped."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

VERSION = "4.14.1"
GRAVE = ("serious", "critical")
_FOLDER = Path(__file__).parents[1] / ".venvs" / f"axe-core-{VERSION}"


def source() -> str:
    """The script; the tests are skipped where npm cannot fetch it."""
    script = _FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    _FOLDER.parent.mkdir(exist_ok=True)
    with FileLock(f"{_FOLDER}.lock"):
        if not script.exists():
            _fetch()
    return script.read_text(encoding="utf-8")


def _fetch() -> None:
    if shutil.which("npm") is None:
        pytest.skip("accessibility is checked by axe-core, and there is no npm to fetch it")
    command = ("npm", "install", "--prefix", str(_FOLDER), "--no-save", "--ignore-scripts", f"axe-core@{VERSION}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm could not fetch axe-core: {done.stderr.strip()[-200:]}")


async def violations(page: Any, script: str) -> list[str]:
    """What is gravely wrong on a page, and where."""
    # A page lets no foreign script in; the driver of the browser may evaluate one all the same.
    found = await page.evaluate(f"async () => {{ {script}; return await axe.run({{ resultTypes: ['violations'] }}); }}")
    assert found["passes"], "nothing was checked"
    return [
        f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}"
        for each in found["violations"]
        if each["impact"] in GRAVE
    ]
