"""What the pages ask about the proxy."""

from dataclasses import dataclass
from urllib.parse import parse_qs

import orjson
from starlette.routing import Route

from aligner.config import Mode
from aligner.serving.admission import Admission
from aligner.serving.client import JSON, Client, Receive
from aligner.serving.endpoint import Endpoint, Scope, headers_of
from aligner.serving.keys import require
from aligner.serving.logged import Content
from aligner.serving.named import Named
from aligner.serving.pages.entering import first
from aligner.serving.pages.files import NOT_KEPT

TAGS = ("helpful", "harmless", "honest", "over-correction", "meaning changed", "format broken")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Who is there by what name, and who asks."""

    admission: Admission
    named: Named
    mode: Mode
    content: Content | None
    """what the log holds of texts; none without a log"""
    version: str

    @property
    def routes(self) -> list[Route]:
        """What is answered where."""
        return [
            Route("/v1/aligner/settings", Endpoint(self.settings, self.admission), methods=["GET"]),
            Route("/v1/aligner/models", Endpoint(self.models, self.admission), methods=["GET"]),
        ]

    async def settings(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/settings: what a page has to know."""
        caller = require(scope, "viewer")
        headers = dict(headers_of(scope))
        session = None if "authorization" in headers else self.admission.session(headers)
        told = {
            "name": caller.name,
            "role": caller.role,
            "csrf": session.csrf if session else "",
            "version": self.version,
            "upstreams": list(self.named.upstreams),
            "aligners": [
                {"name": name, "fingerprint": pair.proxy.engine.fingerprint}
                for name, pair in self.named.aligners.items()
            ],
            "modes": list(self.named.default.asks),
            "mode": self.mode,
            "log": None if self.content is None else {"content": self.content},
            "tags": TAGS,
        }
        await client.answer(200, [*JSON, NOT_KEPT], orjson.dumps(told))

    async def models(self, scope: Scope, _: Receive, client: Client) -> None:
        """/v1/aligner/models?upstream=NAME: the names of an upstream's models."""
        require(scope, "viewer")
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        pair = self.named.pair(first(asked, "upstream") or None, None)
        found = await pair.models.names(headers_of(scope))
        await client.answer(200, [*JSON, NOT_KEPT], orjson.dumps({"models": found}))
