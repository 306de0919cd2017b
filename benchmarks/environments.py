"""Virtual environments for packages whose requirements conflict with ours: made once, kept in .venvs, and pinned."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / ".venvs"


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """The Python of an environment with these requirements, which is made first where there is none yet.

    Raises CalledProcessError where pip cannot install them.
    """
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = _FOLDER / f"{name}-{digest}"
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        print(f"making an environment with {' '.join(requirements)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        done.touch()
    return python
