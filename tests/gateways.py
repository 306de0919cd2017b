"""Programs of other people's packages, each in an environment of its own, and a served Aligner for them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from programs import running

from aligner.testing import Upstream, serving

ROOT = Path(__file__).parents[1]


class Served(NamedTuple):
    """Where a correcting proxy and the upstream behind it listen, and what the upstream has seen."""

    url: str
    upstream_url: str
    upstream: Upstream


@asynccontextmanager
async def corrected(folder: Path, **options: Any) -> AsyncGenerator[Served, None]:
    """`aligner serve`, which calls Paris by its Roman name, before a scripted upstream."""
    rules = folder / "rules.json"
    rules.write_bytes(orjson.dumps([{"pattern": "Paris", "replace": "Lutetia"}]))
    upstream = Upstream()
    async with (
        serving(upstream) as upstream_url,
        running(upstream_url, folder, aligner=f"rules:{rules}", **options) as program,
    ):
        yield Served(program.url, upstream_url, upstream)


def variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those of a program that finds our package, and speaks to nobody else."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **(more or {})}


async def told(python: Path, code: str, *arguments: str, more: Mapping[str, str] | None = None) -> Any:
    """What a script prints as JSON in its last line; its words are in the error where it fails."""
    process = await asyncio.create_subprocess_exec(
        python, "-W", "ignore", "-c", code, *arguments, env=variables(more), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return orjson.loads(out.splitlines()[-1])
