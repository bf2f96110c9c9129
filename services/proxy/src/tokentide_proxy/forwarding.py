"""The way through: requests go up as they come, answers come down as they arrive, and are noted beside."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, Protocol

import structlog

from tokentide_common.errors import TokentideError
from tokentide_proxy.admission import Admission
from tokentide_proxy.answer_delivery import Delivery
from tokentide_proxy.client_body import ClientBody
from tokentide_proxy.client_connection import EXTENSION, Client
from tokentide_proxy.exchange import Headers, Upstream
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.headers import request_headers, response_headers
from tokentide_proxy.recorder import Recorder, label
from tokentide_proxy.refusals import Refusal, nowhere, refusal
from tokentide_proxy.response import Response
from tokentide_proxy.routing import Routes
from tokentide_proxy.stream_usage import ask_for_usage, usage_hidden
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_errors import UpstreamBroken, UpstreamError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_LAST_STATUS: Final = 599
_log = structlog.get_logger(__name__)


class Gatekeeper(Protocol):
    """Who decides whether a request may pass, and with whose credentials."""

    async def admit(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        """Return who calls and what to send; raises a `TokentideError`."""


class Forwarder:
    """An ASGI application for whatever leads to an upstream; it needs our own `client_connection`."""

    def __init__(
        self,
        routes: Routes,
        gate: Gatekeeper,
        upstreams: UpstreamClient,
        recorder: Recorder,
        *,
        max_body_bytes: int,
        stream_usage: bool,
    ) -> None:
        self.in_flight = 0
        """Exchanges under way."""
        self._routes = routes
        self._gate = gate
        self._upstreams = upstreams
        self._recorder = recorder
        self._max_body_bytes = max_body_bytes
        self._stream_usage = stream_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        client: Client = scope["extensions"][EXTENSION]
        route = self._routes.find(client.target)
        if route is None:
            await _answer(send, nowhere(uuid.uuid4().hex))
            return
        exchange = Exchange(route, scope["method"], scope["headers"])
        task = asyncio.current_task(client.loop)
        assert task is not None, "a server runs each request in a task"
        self.in_flight += 1
        # At the moment when the client leaves, whatever this task waits for ends, and the upstream with it.
        client.watch(task.cancel)
        try:
            await self._exchange(exchange, client, scope, receive)
        except asyncio.CancelledError:
            exchange.left("client_left" if client.gone else "proxy_stopped")
            client.cut()
        except Exception as error:
            await _broken(exchange, error, client, send)
        finally:
            client.watch(None)
            client.when_drained(None)
            self.in_flight -= 1
            self._recorder.record(exchange)

    async def _exchange(self, exchange: Exchange, client: Client, scope: Scope, receive: Receive) -> None:
        upstream, method = exchange.route.upstream, exchange.method
        peer = scope["client"][0] if scope["client"] else ""
        admission = await self._gate.admit(upstream, exchange.route.target, exchange.headers, peer)
        exchange.key = admission.key
        headers = request_headers(admission.headers, upstream)
        body = ClientBody(receive, exchange.headers, max_bytes=self._max_body_bytes, wanted=method == "POST")
        exchange.body = body
        await body.begin(client.arrived())
        asking = await ask_for_usage(exchange.route, method, headers, body) if self._stream_usage else None
        exchange.handed_over_at = monotonic()
        response = await self._upstreams.send(
            upstream,
            method.encode("ascii"),
            admission.target,
            headers if asking is None else asking,
            body.pieces() if body.whole is None else body.whole,
        )
        try:
            await _deliver(exchange, response, client, hides_usage=asking is not None)
        finally:
            exchange.request_sent_at = response.sent_at
            response.abort()


async def _deliver(exchange: Exchange, response: Response, client: Client, *, hides_usage: bool) -> None:
    status, headers = response.status, response_headers(response.headers, response.status)
    if status > _LAST_STATUS:
        raise UpstreamBroken("a status that HTTP does not have")
    hiding = None
    if hides_usage:
        hiding, headers = usage_hidden(status, headers)
    if client.flow.write_paused:
        await client.flow.drain()  # it asks on and on and does not read what it is answered
    exchange.answered(status, response.headers)
    client.begin(status, headers)
    delivery = Delivery(exchange, client, hiding)
    client.when_drained(response.resume)
    try:
        over = response.pass_to(delivery)
        client.flush()
        await over
    finally:
        delivery.end_hiding()
    delivery.end()


async def _broken(exchange: Exchange, error: Exception, client: Client, send: Send) -> None:
    name = label(exchange.route.upstream)
    if isinstance(error, UpstreamError):
        exchange.left(error.word)
        _log.warning("upstream_failed", upstream=name, word=error.word, why=str(error))
    elif exchange.handed_over_at:
        exchange.left("request_broken")
    if not isinstance(error, (UpstreamError, TokentideError)):
        _log.error("exchange_failed", upstream=name, exc_info=error)
    if exchange.status:
        # It has begun: an end that looks like one would make half an answer into a whole one.
        client.cut()
        return
    answer = refusal(error, exchange.route.upstream, uuid.uuid4().hex)
    exchange.refused(answer.status)
    await _answer(send, answer)


async def _answer(send: Send, answer: Refusal) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
