"""What `/healthz`, `/readyz` and `/metrics` answer, whatever serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from tokentide_common.metrics import CONTENT_TYPE, Metrics

Checks = Callable[[], Awaitable[Mapping[str, bool]]]
"""Answers, for each thing that a service needs, whether it is there."""
Alive = Callable[[], bool]
"""Answers whether the service still makes progress; never asks other services."""

_CHECK_TIMEOUT_S: Final = 2.0
_JSON: Final = "application/json"
_log = structlog.get_logger(__name__)


class Answered(msgspec.Struct, frozen=True):
    """An answer to a probe."""

    status: int
    body: bytes
    media_type: str = _JSON


def always_alive() -> bool:
    """Whoever can answer at all is alive: right for a service whose event loop is all it has."""
    return True


async def nothing_needed() -> Mapping[str, bool]:
    """A service that needs nothing else is ready when it answers."""
    return {}


def liveness(alive: Alive) -> Answered:
    """Return what `/healthz` answers: 503 means, restart me."""
    ok = alive()
    return _answered({"status": "alive" if ok else "stuck"}, ok)


async def readiness(checks: Checks) -> Answered:
    """Return what `/readyz` answers: 503 means, send me nothing."""
    found = await _checked(checks)
    ok = all(found.values())
    return _answered({"status": "ready" if ok else "not ready", "checks": found}, ok)


def exposition(metrics: Metrics) -> Answered:
    """Return what `/metrics` answers."""
    return Answered(200, metrics.render(), CONTENT_TYPE)


async def _checked(checks: Checks) -> Mapping[str, bool]:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            return await checks()
    except Exception:
        # A check that fails or hangs is an answer too, and the probe must get it in time.
        _log.warning("readiness_check_failed", exc_info=True)
        return {"checks": False}


def _answered(body: Mapping[str, Any], ok: bool) -> Answered:
    return Answered(200 if ok else 503, msgspec.json.encode(body))
