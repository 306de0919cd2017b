"""Virtual environments for packages whose requirements conflict with ours: made once, kept in .venvs, and pinned."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

LITELLM: Sequence[str] = (
    "litellm[proxy]==1.106.2",
    "aiohttp==3.14.5",
    "fastapi==0.165.0",
    "httptools==0.9.0",  # not of its requirements: its server is to parse HTTP as fast as ours
    "httpx==0.28.1",
    "openai==2.54.0",
    "orjson==3.13.0",
    "pydantic==2.14.4",
    "starlette==1.10.0",
    "uvicorn==0.54.0",
    "uvloop==0.23.0",
)
"""What `python_of("litellm", …)` needs for LiteLLM's proxy and for a guardrail in it."""

LANGCHAIN: Sequence[str] = (
    "langchain==1.5.2",
    "langchain-core==1.8.3",
    "langchain-openai==1.7.4",
    "langchain-protocol==0.0.20",
    "langgraph==1.2.24",
    "openai==3.57.0",
    "pydantic==2.14.4",
    "aiohttp==3.14.5",  # ours, for a remote Aligner
)
"""What `python_of("langchain", …)` needs for an agent and for a chat model of an OpenAI-compatible server."""

LM_EVAL: Sequence[str] = (
    "lm-eval[api]==0.4.13",
    "aiohttp==3.14.5",
    "antlr4-python3-runtime==4.13.2",
    "datasets==5.2.0",
    "evaluate==0.4.6",
    "latex2sympy2_extended==1.11.0",
    "math-verify==0.9.0",  # for mathematics
    "requests==2.34.2",
    "tenacity==9.2.1",
    "tiktoken==0.14.0",
)
"""What `python_of("lm-eval", …)` needs for lm-evaluation-harness against OpenAI-compatible servers."""

TRANSFORMERS = (
    "transformers[serving]==5.23.0",
    "torch==2.13.0",
    "fastapi==0.165.0",
    "pydantic==2.14.4",
    "starlette==1.10.0",
    "uvicorn==0.54.0",
)
"""What `python_of("transformers-serve", …)` needs for `transformers serve`."""

_FOLDER = Path(__file__).parents[1] / ".venvs"


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """The Python of an environment with these requirements, which is made first where there is none yet.

    Raises CalledProcessError where pip cannot install them.
    """
    digest = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = _FOLDER / f"{name}-{digest}"
    _FOLDER.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            _make(folder, requirements)
    return folder / "bin" / "python"


def _make(folder: Path, requirements: Sequence[str]) -> None:
    print(f"making an environment with {' '.join(requirements)}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements], check=True, stdout=sys.stderr)
    (folder / "done").touch()
