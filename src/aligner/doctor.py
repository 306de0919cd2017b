"""Examine any OpenAI-compatible endpoint, and say in a table what clients would stumble over."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import aiohttp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aligner.config import DoctorConfig
from aligner.errors import MisuseError, ModelError, visible
from aligner.jobs import progress
from aligner.testing import plain_checks, stream_checks
from aligner.testing.probe import Ask, Check, NoAnswerError, NotSupportedError, Outcome, Probe, Seen, finding, objects

CHECKS: tuple[Check, ...] = (*plain_checks.CHECKS, *stream_checks.CHECKS)

_STYLES: Mapping[str, str] = {"ok": "green", "finding": "bold red", "advice": "yellow", "not supported": "dim"}


class Result(NamedTuple):
    """A check and its outcome."""

    check: Check
    outcome: Outcome


def doctor(config: DoctorConfig) -> None:
    """Run all checks and print their outcomes; raises ModelError with what was found, MisuseError for no URL."""
    url = config.url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise MisuseError(
            f'"{config.url}" is no URL; give the base URL of an endpoint, such as http://localhost:8000/v1'
        )
    key = os.environ.get("ALIGNER_DOCTOR_KEY") or os.environ.get("OPENAI_API_KEY", "")
    results = asyncio.run(_examine(url, config, key.strip()))
    Console(highlight=False).print(table(results))
    found = [result for result in results if result.outcome.kind == "finding"]
    if found:
        said = "; ".join(f"{check.name}: {outcome.text}" for check, outcome in found)
        raise ModelError(f"{url}: {len(found)} of {len(results)} checks failed: {said}")


async def _examine(url: str, config: DoctorConfig, key: str) -> list[Result]:
    async with aiohttp.ClientSession() as session:
        probe = Probe(url=url, session=session, key=key, seconds=config.seconds)
        return await examine(replace(probe, model=config.model or await _first_model(probe)))


async def examine(probe: Probe, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """The outcome of every check; raises ModelError where not even a plain request is answered."""
    _answered(probe.url, await _asked(probe, Ask()))
    results: list[Result] = []
    with progress("doctor", total=len(checks), unit="checks") as tick:
        for check in checks:
            results.append(Result(check, await _outcome(check, probe)))
            tick(1)
    return results


def table(results: Sequence[Result]) -> Table:
    """The outcomes for a terminal; what the endpoint sent is shown, not obeyed."""
    shown = Table("check", "looks at", "outcome")
    for check, outcome in results:
        said = f"{outcome.kind}: {outcome.text}" if outcome.text else outcome.kind
        shown.add_row(check.name, check.asks, Text(visible(said), _STYLES[outcome.kind]))
    return shown


async def _outcome(check: Check, probe: Probe) -> Outcome:
    try:
        return await check.run(probe)
    except NotSupportedError as missing:
        return Outcome("not supported", str(missing))
    except NoAnswerError as error:
        return finding(str(error))


async def _first_model(probe: Probe) -> str:
    """The first model that the endpoint lists."""
    seen = await _asked(probe, Ask(path="/models", method="GET"))
    ids = [model.get("id") for model in objects(seen.json.get("data"))]
    if not ids or not isinstance(ids[0], str):
        cure = (
            "name one with --model" if seen.status == 200 else f"is {probe.url} the base URL, which often ends in /v1?"
        )
        raise ModelError(f"{probe.url}/models: no list of models (status {seen.status}); {cure}")
    return ids[0]


async def _asked(probe: Probe, ask: Ask) -> Seen:
    try:
        return await probe.ask(ask)
    except NoAnswerError as error:
        raise ModelError(f"{probe.url}: {error}; is the server running?") from error


def _answered(url: str, seen: Seen) -> None:
    cures = {
        401: "; set ALIGNER_DOCTOR_KEY to a key of this endpoint",
        404: "; check --model, and that the base URL ends as the endpoint wants it, often in /v1",
    }
    if seen.status != 200:
        raise ModelError(f"{url}: a plain request gets status {seen.status}{cures.get(seen.status, '')}: {seen.start}")
