"""The proxy as an ASGI app, made from its settings; several may live in one process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from tokentide_common.broker import Publisher
from tokentide_common.key_directory import LiveKeys
from tokentide_common.metrics import Metrics
from tokentide_proxy.access import Access
from tokentide_proxy.client_connection import AT_ONCE, client_connections
from tokentide_proxy.client_heads import ClientLimits
from tokentide_proxy.control import PATHS, Control
from tokentide_proxy.forwarding import Forwarder, Receive, Scope, Send
from tokentide_proxy.recorder import Recorder
from tokentide_proxy.routing import Routes
from tokentide_proxy.settings import ProxySettings
from tokentide_proxy.tap import Tap
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_limits import UpstreamLimits
from tokentide_proxy.upstream_table import upstreams

_TAP_DRAIN_S: Final = 5.0
# `kill -9` loses what ended within it, beside all that is still under way, which is more. Half of it takes a
# tenth more CPU of a stream: whatever wakes up so seldom finds nothing of it in the processor's caches.
_RECORD_LINGER_S: Final = 0.15
_KEEP_ALIVE_S: Final = 75


class ProxyApp:
    """Answers for itself on three paths, and forwards everything else."""

    def __init__(
        self, forwarder: Forwarder, control: Callable[[Scope, Receive, Send], Awaitable[None]]
    ) -> None:
        self._forwarder = forwarder
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the app."""
        if scope["type"] == "lifespan":
            scope["state"][AT_ONCE] = self._forwarder.at_once
        if scope["type"] == "http" and scope["path"] not in PATHS:
            await self._forwarder(scope, receive, send)
        else:
            await self._control(scope, receive, send)


def create_app(
    settings: ProxySettings, *, keys: LiveKeys | None = None, metrics: Metrics | None = None
) -> ProxyApp:
    """Return the app, to be served with `serving_options`. What is passed in stays the caller's to stop."""
    metrics = metrics or Metrics()
    access = Access(settings, keys=keys)
    publisher = Publisher(settings.broker_url)
    tap = Tap(settings, publisher, metrics)
    # Where the broker forgets, an event must be on disk as soon as it can.
    recorder = Recorder(tap, metrics, linger_s=0.0 if settings.embedded else _RECORD_LINGER_S)
    client = UpstreamClient(_upstream_limits(settings), repeated=recorder.repeated)
    forwarder = Forwarder(
        Routes(upstreams(settings.proxy_upstreams)),
        access,
        client,
        recorder,
        max_body_bytes=settings.proxy_max_body_bytes,
        stream_usage=settings.proxy_openai_stream_usage,
    )
    metrics.gauge("tokentide_proxy_streams_in_flight").set_function(lambda: forwarder.in_flight)
    metrics.gauge("tokentide_proxy_upstream_connections", state="idle").set_function(
        lambda: client.idle_connections
    )
    metrics.gauge("tokentide_proxy_upstream_connections", state="in_use").set_function(
        lambda: client.connections - client.idle_connections
    )

    @contextlib.asynccontextmanager
    async def life() -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(publisher.stop)
            await tap.start()
            stack.push_async_callback(tap.stop, _TAP_DRAIN_S)
            stack.callback(recorder.flush)
            await client.start()
            stack.push_async_callback(client.stop)
            await stack.enter_async_context(access.open())
            yield

    async def checks() -> Mapping[str, bool]:
        # Not the broker: traffic does not need it, and its events wait on disk.
        return {"keys": access.is_open}

    return ProxyApp(forwarder, Control(metrics, checks, life))


def serving_options(settings: ProxySettings) -> Mapping[str, Any]:
    """Return the options of the server: its connections tell when a client has gone, and are strict."""
    limits = ClientLimits(
        head_s=settings.proxy_client_head_timeout_s, idle_s=settings.proxy_client_idle_timeout_s
    )
    return {
        "http": client_connections(limits),
        "ws": "none",
        "date_header": False,  # the provider's own goes through
        "timeout_keep_alive": _KEEP_ALIVE_S,
    }


def _upstream_limits(settings: ProxySettings) -> UpstreamLimits:
    return UpstreamLimits(
        connect_s=settings.proxy_connect_timeout_s,
        first_byte_s=settings.proxy_first_byte_timeout_s,
        idle_s=settings.proxy_idle_timeout_s,
    )
