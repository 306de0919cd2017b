"""What the pages are made of: templates and static files of the package, and the headers that go with them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aligner.serving.client import Client

SAFE = (
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
"""headers of everything that a browser shows"""
NOT_KEPT = ("cache-control", "no-store")
START = "/playground"
"""the first page"""
_HTML = ("content-type", "text/html; charset=utf-8")
# Not what the system says of them, which differs from one to the next.
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    """A file that every page may load."""

    data: bytes
    kind: str
    tag: str
    """another one for every other content"""


def packaged() -> Mapping[str, File]:
    """The static files of the package, by name."""
    entries = files("aligner.serving").joinpath("static").iterdir()
    found = {entry.name: entry.read_bytes() for entry in entries if entry.is_file()}
    return {name: File(data, _kind(name), f'"{hashlib.sha256(data).hexdigest()[:32]}"') for name, data in found.items()}


def _kind(name: str) -> str:
    return _KINDS.get(PurePath(name).suffix, "application/octet-stream")


def _environment() -> Environment:
    return Environment(loader=PackageLoader("aligner.serving", "templates"), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True, slots=True)
class Templates:
    """Makes pages; whatever they are given stands in them as text."""

    version: str = field(default_factory=partial(version, "aligner-llm"))
    _made: Environment = field(default_factory=_environment)

    async def show(
        self, client: Client, name: str, *headers: tuple[str, str], status: int = 200, **context: Any
    ) -> None:
        """Send a page."""
        text = self._made.get_template(f"{name}.html").render(page=name, version=self.version, **context)
        await client.answer(status, [_HTML, NOT_KEPT, *SAFE, *headers], text.encode())


async def lead(client: Client, path: str, *headers: tuple[str, str]) -> None:
    """Send the browser on to a page of ours."""
    await client.answer(303, [("location", path), NOT_KEPT, *SAFE, *headers], b"")
