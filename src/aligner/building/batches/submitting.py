"""Batches sent so that each is paid once, whenever the process is killed.

A file goes through three notes: `written`, `sending` before its batch is asked for, `running` once the server has named
it. Where a run finds `sending`, the server may or may not have taken the batch: its list says so, by the token. Only
when the list, read some seconds after, does not have it, the batch is asked for again.
"""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

from aligner.building.batches.client import Batch, BatchApi
from aligner.building.batches.endpoints import BatchEndpoint
from aligner.building.batches.register import BatchFile, Register
from aligner.models.server import RefusedError, TransientError

_LONGEST_WAIT = 3600.0


async def submit(
    api: BatchApi, register: Register, endpoint: BatchEndpoint, file: BatchFile, folder: Path
) -> BatchFile | None:
    """Send a file that is on the disk, or find the batch that was made of it; nothing where there is neither.

    Raises ModelError.
    """
    if file.state == "sending":
        await asyncio.sleep(endpoint.settle)
    batch = await api.find(file.token) if file.state == "sending" else None
    if batch is None:
        try:
            uploaded = await api.upload(folder / file.file, file.file)
        except FileNotFoundError:
            return None
        register.note(file, "sending")
        batch = await _created(api, register, endpoint, file, uploaded)
    register.note(file, "running", batch.id)
    return replace(file, state="running", batch=batch.id)


async def _created(api: BatchApi, register: Register, endpoint: BatchEndpoint, file: BatchFile, uploaded: str) -> Batch:
    """Have the batch made; where that may have failed, the server's list is read before it is tried again."""
    attempt = 1
    while True:
        try:
            return await api.create(uploaded, endpoint.path, file.token)
        except RefusedError:
            # A refusal is an answer: nothing was made.
            register.note(file, "written")
            raise
        except TransientError as error:
            if attempt == endpoint.attempts:
                raise
            await asyncio.sleep(max(endpoint.settle, _pause(attempt, error.wait)))
        if found := await api.find(file.token):
            return found
        attempt += 1


def _pause(attempt: int, asked: float | None) -> float:
    """Seconds: what the server asks for, or else twice as many each time, by chance less."""
    if asked is not None:
        return min(asked, _LONGEST_WAIT)
    return random.uniform(0.5, 1.0) * min(2.0 ** (attempt - 1), 60.0)
