"""The proxy's own three paths and its life, as one ASGI application.

Without a framework: Litestar was an eighth of a worker's memory, for three answers that never change shape.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from tokentide_common.metrics import Metrics
from tokentide_common.probes import Answered, Checks, always_alive, exposition, liveness, readiness
from tokentide_common.problem import MEDIA_TYPE, problem

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Life = Callable[[], contextlib.AbstractAsyncContextManager[None]]
PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS: Final = ("GET", "HEAD")


class Control:
    """Answers probes; opens what the service needs before the first request and closes it after the last."""

    def __init__(self, metrics: Metrics, checks: Checks, life: Life = contextlib.nullcontext) -> None:
        self._metrics = metrics
        self._checks = checks
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the app."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        method = scope["method"]
        headers: dict[str, str] = {}
        if method in _METHODS:
            answered = await self._answered(scope["path"])
        else:
            answered, headers = _not_allowed()
        headers |= {"content-type": answered.media_type, "content-length": str(len(answered.body))}
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answered.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answered.body})

    async def _answered(self, path: str) -> Answered:
        if path == "/healthz":
            return liveness(always_alive)
        return await readiness(self._checks) if path == "/readyz" else exposition(self._metrics)

    async def _live(self, receive: Receive, send: Send) -> None:
        # What is raised here the server logs, and stops.
        await receive()
        async with self._life():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _not_allowed() -> tuple[Answered, dict[str, str]]:
    instance = uuid.uuid4().hex
    body = problem(
        "method_not_allowed", "Method not allowed", 405, detail="Method not allowed", instance=instance
    )
    headers = {"allow": ", ".join(_METHODS), "x-request-id": instance}
    return Answered(405, msgspec.json.encode(body), MEDIA_TYPE), headers
