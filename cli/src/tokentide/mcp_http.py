"""`tokentide mcp --http`: the tools over streamable HTTP, each request in the scope of its own key."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final

import msgspec
import uvicorn
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tokentide.connection import Connection
from tokentide.failures import Exit, Failure

_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_BEARER: Final = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_BROUGHT: Final[ContextVar[str]] = ContextVar("_BROUGHT")


class Place(msgspec.Struct, frozen=True):
    """Where to listen."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether only programs of this machine reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def name(self) -> str:
        """Return the host as an address on the web writes it."""
        return f"[{self.host}]" if ":" in self.host else self.host


def place_of(text: str) -> Place:
    """Return what `[HOST:]PORT` names. Pure. Raises `Failure`."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise Failure(
            f"{text} is no place to listen at", hint="--http 8765, or --http HOST:8765", code=Exit.USAGE
        )
    return Place(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))


def connection_of_request(own: Connection) -> Connection:
    """Return the server with the key of the request that is being answered; without one, with our own."""
    key = _BROUGHT.get()
    return Connection(own.url, key) if key else own


async def with_its_key(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Answer a message by the key of the very request that it came in, whoever has asked before."""
    if not isinstance(ctx.request, Request):
        raise TypeError("a message over HTTP comes in a request")
    before = _BROUGHT.set(_brought(ctx.request.headers) or "")
    try:
        return await call_next(ctx)
    finally:
        _BROUGHT.reset(before)


def application(server: MCPServer, place: Place, names: Sequence[str] = ()) -> ASGIApp:
    """Return what answers at `/mcp`: by names of ours, and beyond this machine only whoever brings a key."""
    hosts = (*_LOOPBACK, place.name, *names)
    # A page whose name is made to lead here sends that name as Host: it is not among ours.
    security = TransportSecuritySettings(
        allowed_hosts=[form for host in hosts for form in (host, f"{host}:*")],
        allowed_origins=[
            f"{kind}://{host}{port}" for host in hosts for kind in ("http", "https") for port in ("", ":*")
        ],
    )
    # Without sessions nothing of one request, its key least of all, is left for the next.
    app = server.streamable_http_app(stateless_http=True, json_response=True, transport_security=security)
    return _refusing_the_keyless(app, own_key_serves=place.is_loopback)


def listen(app: ASGIApp, listener: socket.socket) -> None:
    """Answer until the process is asked to end."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


def listener_at(place: Place) -> socket.socket:
    """Return a socket that listens. Raises `Failure` where that is impossible."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        return socket.create_server((place.host, place.port), family=family)
    except OSError as error:
        raise Failure(f"cannot listen at {place.name}:{place.port}: {error.strerror}") from None


def _refusing_the_keyless(app: ASGIApp, *, own_key_serves: bool) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            brought = _brought(Headers(scope=scope))
            # What is no key is refused also where none is needed: who sends it means to be somebody else.
            if brought == "" or (brought is None and not own_key_serves):
                refused = PlainTextResponse(
                    "send `Authorization: Bearer` with an API key of Tokentide\n",
                    401,
                    {"www-authenticate": "Bearer"},
                )
                await refused(scope, receive, send)
                return
        await app(scope, receive, send)

    return answer


def _brought(headers: Headers) -> str | None:
    """Return the key of a request: none where it names none, empty where what it names is no key. Pure."""
    said = headers.get("authorization")
    if said is None:
        return None
    found = _BEARER.fullmatch(said.strip())
    return found[1] if found else ""
