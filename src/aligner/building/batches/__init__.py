"""Requests by the day: Batch APIs, and batch files for engines that have no server.

Both write the same files and read the same lines; what a file holds and where its batch is stands in the store, so
that the same command again collects what has come meanwhile.
"""

from aligner.building.batches import files
from aligner.building.batches.endpoints import BatchEndpoint, FileLimits, FilesEndpoint, Progress, Say
from aligner.building.batches.running import run, run_async, waiting

__all__ = ["BatchEndpoint", "FileLimits", "FilesEndpoint", "Progress", "Say", "files", "run", "run_async", "waiting"]
