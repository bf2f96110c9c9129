"""The way through: requests go up as they come, answers come down as they arrive, and are noted beside."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, Protocol

import structlog

from tokentide_common.errors import RateLimited, TokentideError
from tokentide_proxy.answer_delivery import begin_answer
from tokentide_proxy.attribution import MAX_READ_BODY, attribution_of
from tokentide_proxy.client_body import ClientBody
from tokentide_proxy.client_cycle import EXTENSION, Cycle
from tokentide_proxy.exchange import Admission, Headers, Upstream
from tokentide_proxy.exchanges import Exchange
from tokentide_proxy.headers import request_headers
from tokentide_proxy.passage import Passage
from tokentide_proxy.refusals import nowhere, refusal
from tokentide_proxy.request_plan import Plan
from tokentide_proxy.response import Response
from tokentide_proxy.routing import Routes
from tokentide_proxy.stream_usage import ask_for_usage, may_ask_for_usage
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_errors import UpstreamError
from tokentide_proxy.whom import Whom

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
# Who was admitted a moment ago is not looked at again. It adds to the time after which keys, providers' keys
# and budgets that have changed elsewhere are known here, which is seconds.
_GOOD_S: Final = 0.25
_log = structlog.get_logger(__name__)


class Gatekeeper(Protocol):
    """Who decides whether a request may pass, and with whose credentials."""

    async def admit(self, upstream: Upstream, target: bytes, headers: Headers, peer: str) -> Admission:
        """Return who calls and what to send; raises a `TokentideError`."""

    def admit_at_once(
        self, upstream: Upstream, target: bytes, headers: Headers, peer: str
    ) -> Admission | None:
        """Return the same where nothing has to be waited for and nothing is to be refused."""

    def still_admits(self, admission: Admission, upstream: Upstream) -> bool:
        """Return whether the same request would be admitted in the same way now."""

    def over_budget(self, admission: Admission, method: bytes) -> RateLimited | None:
        """Return why an admitted request is refused all the same, without waiting for anything."""


class Notes(Protocol):
    """Who takes down what has ended."""

    def record(self, exchange: Exchange) -> None:
        """Take down an exchange that has ended. Never raises."""


class Forwarder:
    """An ASGI application for whatever leads to an upstream; it needs our own `client_connection`."""

    def __init__(
        self,
        routes: Routes,
        gate: Gatekeeper,
        upstreams: UpstreamClient,
        recorder: Notes,
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

    def at_once(self, client: Cycle) -> bool:
        """Forward a request that has come whole, if there is nothing to wait for; False: it takes a task."""
        whole = client.arrived()
        if whole is None or len(whole) > self._max_body_bytes or client.flow.write_paused:
            return False
        try:
            plan = self._plan(client)
            if plan is None:
                return False
            exchange = Exchange(plan.route, client.method, client.headers)
            request, hides_usage = plan.request(client, whole)
        except Exception:
            return False  # it happens again in the task, where it is told and noted
        exchange.whom = plan.whom
        if len(whole) <= MAX_READ_BODY:
            exchange.whole = whole
        passage = Passage(exchange, client, _broken, self._ended, self._again, hides_usage=hides_usage)
        exchange.handed_over_at = monotonic()
        connection = self._upstreams.at_once(plan.route.upstream, request, passage)
        if connection is None:
            return False
        self.in_flight += 1
        passage.begun(connection)
        return True

    def _plan(self, client: Cycle) -> Plan | None:
        known, gate, now = client.known, self._gate, monotonic()
        plan = known.plan if known is not None else None
        if isinstance(plan, Plan):
            if now < plan.good_until:
                return plan
            if gate.still_admits(plan.admission, plan.route.upstream):
                return self._affordable(plan, client, now)
        route = self._routes.find(client.target)
        if route is None:
            return None
        upstream, headers = route.upstream, client.headers
        admission = gate.admit_at_once(upstream, route.target, headers, client.peer)
        if admission is None:
            return None
        asks = self._stream_usage and may_ask_for_usage(route, client.method, headers)
        plan = Plan(route, admission, Whom(admission.key, attribution_of(headers)), asks_for_usage=asks)
        if known is not None:
            known.plan = plan
        return self._affordable(plan, client, now)

    def _affordable(self, plan: Plan, client: Cycle, now: float) -> Plan | None:
        if self._gate.over_budget(plan.admission, client.method) is not None:
            return None
        plan.good_until = now + _GOOD_S
        return plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        client: Cycle = scope["extensions"][EXTENSION]
        route = self._routes.find(client.target)
        if route is None:
            client.answer(*nowhere(uuid.uuid4().hex))
            return
        exchange = Exchange(route, client.method, client.headers)
        task = asyncio.current_task(client.loop)
        assert task is not None, "a server runs each request in a task"
        self.in_flight += 1
        # At the moment when the client leaves, whatever this task waits for ends, and the upstream with it.
        client.watch(task.cancel)
        try:
            await self._exchange(exchange, client, receive)
        except asyncio.CancelledError:
            exchange.left("client_left" if client.disconnected else "proxy_stopped")
            client.cut()
        except Exception as error:
            _broken(exchange, error, client)
        finally:
            client.watch(None)
            client.when_drained(None)
            self._ended(exchange)

    def _ended(self, exchange: Exchange) -> None:
        self.in_flight -= 1
        self._recorder.record(exchange)

    def _again(self, exchange: Exchange) -> None:
        self.in_flight -= 1  # the task that takes it over counts it anew
        self._upstreams.repeats(exchange.route.upstream)

    async def _exchange(self, exchange: Exchange, client: Cycle, receive: Receive) -> None:
        route, method = exchange.route, exchange.method
        upstream = route.upstream
        admission = await self._gate.admit(upstream, route.target, exchange.headers, client.peer)
        exchange.whom = Whom(admission.key, attribution_of(exchange.headers))
        refused = self._gate.over_budget(admission, method)
        if refused is not None:
            raise refused
        headers = request_headers(admission.headers, upstream)
        body = ClientBody(receive, exchange.headers, max_bytes=self._max_body_bytes, wanted=method == b"POST")
        exchange.body = body
        await body.begin(client.arrived())
        asking = await ask_for_usage(route, method, headers, body) if self._stream_usage else None
        exchange.handed_over_at = monotonic()
        response = await self._upstreams.send(
            upstream,
            method,
            admission.target,
            headers if asking is None else asking,
            body.pieces() if body.whole is None else body.whole,
        )
        try:
            await _deliver(exchange, response, client, hides_usage=asking is not None)
        finally:
            exchange.request_sent_at = response.sent_at
            response.abort()


async def _deliver(exchange: Exchange, response: Response, client: Cycle, *, hides_usage: bool) -> None:
    if client.flow.write_paused:
        await client.flow.drain()  # it asks on and on and does not read what it is answered
    delivery = begin_answer(exchange, response, client, hides_usage=hides_usage)
    try:
        over = response.pass_to(delivery)
        client.flush()
        await over
    finally:
        delivery.end_hiding()
    delivery.end()


def _broken(exchange: Exchange, error: Exception, client: Cycle) -> None:
    name = exchange.route.upstream.label
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
    client.answer(*answer)
