"""The pages themselves, and the files that they load."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

from starlette.routing import Route

from aligner.serving.admission import Admission
from aligner.serving.client import Client, Receive
from aligner.serving.endpoint import Endpoint, Scope, headers_of
from aligner.serving.pages.files import SAFE, START, File, Templates, lead, packaged
from aligner.serving.wire import WireError

NAMES = ("playground", "review", "shadow", "live")


@dataclass(frozen=True, slots=True)
class Showing:
    """What a browser is shown."""

    admission: Admission
    templates: Templates
    _files: Mapping[str, File] = field(default_factory=packaged)

    @property
    def routes(self) -> list[Route]:
        """What is answered where."""
        return [
            Route("/", Endpoint(self.enter, None), methods=["GET"]),
            *(Route(f"/{name}", Endpoint(partial(self.page, name), None), methods=["GET"]) for name in NAMES),
            Route("/static/{name}", Endpoint(self.file, None), methods=["GET"]),
        ]

    async def enter(self, _: Scope, __: Receive, client: Client) -> None:
        """/: the first page."""
        await lead(client, START)

    async def page(self, name: str, scope: Scope, _: Receive, client: Client) -> None:
        """/NAME: a page for viewers; without a session, first the form for the key."""
        headers = dict(headers_of(scope))
        try:
            caller = self.admission.admit(headers, scope["method"], scope["path"])
        except WireError as error:
            if error.status != 401:
                raise
            query = scope["query_string"].decode("latin-1")
            wanted = scope["path"] + (f"?{query}" if query else "")
            await lead(client, f"/login?next={quote(wanted, safe='/')}")
            return
        if not caller.may("viewer"):
            raise WireError(403, "this needs a key with the role viewer", "role_needed")
        session = self.admission.session(headers)
        await self.templates.show(client, name, caller=caller, csrf=session.csrf if session else "")

    async def file(self, scope: Scope, _: Receive, client: Client) -> None:
        """/static/NAME: a file of the package, which is asked for again only when it has changed."""
        found = self._files.get(scope["path_params"]["name"])
        if found is None:
            raise WireError(404, "there is no such file", "not_found")
        headers = [("content-type", found.kind), ("etag", found.tag), ("cache-control", "no-cache"), *SAFE]
        if dict(headers_of(scope)).get("if-none-match") == found.tag:
            await client.start(304, headers)
            await client.end()
            return
        await client.answer(200, headers, found.data)
