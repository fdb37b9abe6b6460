"""Everything but the hot path, on Starlette: labels, rows, events, people's hands and looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keepfit.errors import VersionUnknown, nearest
from keepfit.server import events, exposition
from keepfit.server.access import CHALLENGE, Access, Caller
from keepfit.server.counters import Counters
from keepfit.server.desk import Desk
from keepfit.server.http import FULL, MOST_BYTES, ROOM, TOO_LARGE
from keepfit.server.inference import routes as inference
from keepfit.server.inference import texted
from keepfit.server.replies import Reply, Send, answered, refused, said
from keepfit.server.tensors import LENGTH

if TYPE_CHECKING:
    from keepfit.server.office import Office
    from keepfit.server.tally import Tally

Handler = Callable[[Request], Awaitable[Response]]


MOST_LETTERS = 10_000
"""Letters of a reason: it is kept for good, and shown wherever its fact is."""


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What a person asks for: with a reason, which is kept, and who gave it.

    Where there are tokens, the fact names the token; ``by`` says for whom.
    """

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_LETTERS)]
    by: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    version: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    force: bool = False


def app(desk: Desk, office: Office, access: Access, tally: Tally) -> Starlette:
    """Return the application of a server."""
    doors, guard = _Doors(desk, office), guarding(access, desk.counters)
    guarded: Sequence[tuple[str, str, str, Callable[[Request], Awaitable[Reply]]]] = (
        ("/predict/{pipeline}", "POST", "predict", doors.predict),
        ("/labels/{pipeline}", "POST", "label", doors.labels),
        ("/rows/{pipeline}", "POST", "label", doors.rows),
        ("/events", "POST", "label", doors.events),
        ("/status", "GET", "read", doors.status),
        ("/why/{version}", "GET", "read", doors.why),
        ("/promote", "POST", "operate", doors.promote),
        ("/approve", "POST", "operate", doors.approve),
        ("/refuse", "POST", "operate", doors.refuse),
        ("/rollback", "POST", "operate", doors.rollback),
        ("/pause", "POST", "operate", doors.pause),
        ("/resume", "POST", "operate", doors.resume),
        ("/health", "GET", "", doors.health),
        ("/health/live", "GET", "", doors.live),
        ("/health/ready", "GET", "", doors.ready),
        ("/openapi.json", "GET", "", doors.openapi),
    )
    listed = [
        Route(path, guard(role, handler), methods=[method])
        for path, method, role, handler in guarded
    ]
    metrics = Route("/metrics", exposition.endpoint(desk, office, access, tally), methods=["GET"])
    made = Starlette(
        routes=[*listed, metrics, *inference(desk, guard)],
        exception_handlers={HTTPException: _told},
    )
    made.router.redirect_slashes = False
    return made


def guarding(
    access: Access, counters: Counters
) -> Callable[[str, Callable[[Request], Awaitable[Reply]]], Handler]:
    """Return what makes a handler one for those alone who may: a role, or none for everybody."""

    def guard(role: str, handler: Callable[[Request], Awaitable[Reply]]) -> Handler:
        async def guarded(request: Request) -> Response:
            if role:
                caller = access.admit(request.scope["headers"], request.scope["client"], role)
                if isinstance(caller, Reply):
                    counters.deny(caller.status)
                    return response(_formed(request, caller))
                request.state.caller = caller
            try:
                return response(await handler(request))
            except Exception as error:
                return response(refused(error))

        return guarded

    return guard


def response(reply: Reply) -> Response:
    """Return a reply as Starlette sends it."""
    headers = {} if reply.retry_after is None else {"retry-after": str(reply.retry_after)}
    if reply.status == 401:
        headers["www-authenticate"] = CHALLENGE.decode()
    # What is left of their bodies is not read.
    if reply.status == 413 or reply is FULL:
        headers["connection"] = "close"
    if reply.head:
        headers[LENGTH] = str(reply.head)
    kind = "application/octet-stream" if reply.head else "application/json"
    return Response(reply.body, reply.status, headers, media_type=kind)


async def _told(request: Request, error: Exception) -> Response:
    """Tell of a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    found = response(_formed(request, _astray(request, error, allowed)))
    if allowed:
        found.headers["allow"] = allowed
    return found


def _astray(request: Request, error: HTTPException, allowed: str) -> Reply:
    if error.status_code == 404:
        hint = "GET /openapi.json names them all"
        return said(404, f"expected a path of this server, got {request.url.path!r}", hint)
    if error.status_code == 405:
        message = f"expected the method {allowed} for {request.url.path}, got {request.method}"
        return said(405, message)
    return said(error.status_code, str(error.detail))


def _formed(request: Request, reply: Reply) -> Reply:
    """Return an error in the form of the protocol that the path belongs to."""
    return texted(reply) if request.url.path.startswith("/v2") else reply


async def body_of(request: Request) -> bytes | Reply:
    """Return the body of a request, or what to say when it is too large, or too much at once."""
    parts: list[bytes] = []
    length = 0
    try:
        async for part in request.stream():
            if length + len(part) > MOST_BYTES:
                return TOO_LARGE
            if not ROOM.take(len(part)):
                return FULL
            length += len(part)
            parts.append(part)
        return b"".join(parts)
    finally:
        ROOM.give(length)


async def later(ask: Callable[[Send], None]) -> Reply:
    """Return what is sent to someone who waits for it."""
    waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def send(reply: Reply) -> None:
        if not waiting.done():
            waiting.set_result(reply)

    ask(send)
    return await waiting


class _Doors:
    def __init__(self, desk: Desk, office: Office) -> None:
        self.desk, self.office = desk, office

    # What comes in ------------------------------------------------------------------------

    async def predict(self, request: Request) -> Reply:
        kind = request.headers.get("content-type", "")
        caller: Caller = request.state.caller
        return await self._taken(
            request, lambda body, send: self.desk.predict(body, kind, send, caller)
        )

    async def rows(self, request: Request) -> Reply:
        kind = request.headers.get("content-type", "")
        return await self._taken(request, lambda body, send: self.desk.take(body, kind, send))

    async def labels(self, request: Request) -> Reply:
        return await self._taken(request, self.desk.label)

    async def events(self, request: Request) -> Reply:
        body = await body_of(request)
        if isinstance(body, Reply):
            return body
        found = events.read(body, request.headers)
        return await later(lambda send: self.desk.event(found, send))

    async def _taken(self, request: Request, take: Callable[[bytes, Send], None]) -> Reply:
        name = request.path_params["pipeline"]
        if name != self.desk.name:
            near = nearest(name, [self.desk.name])
            raise VersionUnknown(
                f"expected the pipeline {self.desk.name!r}, got {name!r}",
                hint=f"the nearest is {near!r}" if near else None,
            )
        body = await body_of(request)
        return body if isinstance(body, Reply) else await later(lambda send: take(body, send))

    # What people look at ------------------------------------------------------------------

    async def health(self, request: Request) -> Reply:
        serving = self.desk.follower.current
        told = {
            "live": True,
            "ready": serving is not None,
            "serving": serving.version if serving is not None else None,
            "problem": self.desk.follower.problem or None,
            # Clients who give their rows ids need to know where, and of which kind.
            "id": {"column": self.desk.roles.id, "kind": serving.ids if serving else ""},
        }
        return answered(told)

    async def live(self, request: Request) -> Reply:
        return answered({"live": True})

    async def openapi(self, request: Request) -> Reply:
        from keepfit.server.openapi import document

        return Reply(200, document(self.desk.name))

    async def ready(self, request: Request) -> Reply:
        self.desk.serving()
        return answered({"ready": True})

    async def status(self, request: Request) -> Reply:
        return answered(await self.office.ask("status"))

    async def why(self, request: Request) -> Reply:
        return answered(await self.office.ask("why", request.path_params["version"]))

    # What people do -----------------------------------------------------------------------

    async def promote(self, request: Request) -> Reply:
        return await self._done(request, "promote")

    async def approve(self, request: Request) -> Reply:
        return await self._done(request, "approve")

    async def refuse(self, request: Request) -> Reply:
        return await self._done(request, "refuse")

    async def rollback(self, request: Request) -> Reply:
        return await self._done(request, "rollback")

    async def pause(self, request: Request) -> Reply:
        return await self._done(request, "pause")

    async def resume(self, request: Request) -> Reply:
        return await self._done(request, "resume")

    async def _done(self, request: Request, what: str) -> Reply:
        body = await body_of(request)
        if isinstance(body, Reply):
            return body
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except msgspec.MsgspecError as error:
            hint = 'send {"reason": "bad week in the source", "by": "ada"}'
            return said(400, f"expected a reason as JSON, got: {error}", hint)
        caller: Caller = request.state.caller
        asked.by = caller.signs(asked.by)
        return answered(await self.office.ask(what, asked))
