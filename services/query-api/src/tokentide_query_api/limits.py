"""`GET /api/v1/limits`: the latest word of providers on each limit, how full it is, and how old that is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, Final, Literal

from tokentide_common.limit_facts import LimitFact, gauge_of
from tokentide_query_api.asking import Asking
from tokentide_query_api.formats import Answer, Kind, columns

Level = Literal["green", "yellow", "red", "unknown"]
LEVELS: Final = ("green", "yellow", "red", "unknown")
COLUMNS: Final = (
    *columns(Kind.TEXT, "provider", "account", "key_id", "model", "kind"),
    *columns(Kind.COUNT, "window_minutes"),
    *columns(Kind.TEXT, "level"),
    *columns(Kind.AMOUNT, "utilization"),
    *columns(Kind.COUNT, "limit", "remaining"),
    *columns(Kind.TEXT, "status"),
    *columns(Kind.TIME, "resets_at"),
    *columns(Kind.TEXT, "source"),
    *columns(Kind.TIME, "observed_at"),
    *columns(Kind.COUNT, "age_s"),
)
_YELLOW_FROM: Final = Decimal("0.75")
_RED_FROM: Final = Decimal("0.9")
_OVERAGE: Final = "unified_overage"
_WINDOWS: Final = {"unified_5h": 300, "unified_7d": 10_080}
_PLACES: Final = Decimal("0.0001")
_FINEST: Final = Decimal("0.000000001")  # as the columns of files have it


async def limits(ask: Asking) -> Answer:
    """Answer every limit of the accounts that the caller may see; waits that are over are left out."""
    facts = sorted(await ask.limit_facts(), key=gauge_of)
    items = [gauge(fact, ask.now) for fact in facts if not (fact.kind == "retry" and _ended(fact, ask.now))]
    return Answer({"as_of": _text(ask.now), "items": items}, COLUMNS, items)


def gauge(fact: LimitFact, now: datetime) -> Mapping[str, Any]:
    """Return one limit as it is answered. Pure."""
    used = utilization(fact)
    return {
        "provider": fact.provider,
        "account": fact.account_id or fact.key_id,
        "key_id": fact.key_id,
        "model": fact.model,
        "kind": fact.kind,
        "window_minutes": fact.window_minutes or _WINDOWS.get(fact.kind),
        "level": level(fact, now),
        "utilization": None if used is None else f"{used:f}",
        "limit": fact.limit,
        "remaining": fact.remaining,
        "status": fact.status,
        "resets_at": None if fact.resets_at is None else _text(fact.resets_at),
        "source": fact.source,
        "observed_at": _text(fact.observed_at),
        "age_s": max(0, round((now - fact.observed_at).total_seconds())),
    }


def utilization(fact: LimitFact) -> Decimal | None:
    """Return which part of a limit was used when it was told: as the provider said, or as its numbers say."""
    if fact.utilization:
        said = Decimal(fact.utilization)
        return said if said == (shorter := said.quantize(_FINEST, ROUND_DOWN)) else shorter
    if fact.remaining is None or not fact.limit:
        return None
    return (1 - Decimal(min(fact.remaining, fact.limit)) / fact.limit).quantize(_PLACES)


def level(fact: LimitFact, now: datetime) -> Level:
    """Return how much a limit should worry its owner."""
    if _ended(fact, now):
        return "unknown"  # what was used is free again, and what was used since nobody has told
    used = utilization(fact)
    # Overage that is rejected is not used up: the account has none.
    status = "" if fact.kind == _OVERAGE else fact.status
    if fact.kind == "retry" or status == "rejected" or (used is not None and used >= _RED_FROM):
        return "red"
    if status == "allowed_warning" or (used is not None and used >= _YELLOW_FROM):
        return "yellow"
    return "unknown" if used is None and not status else "green"


def _ended(fact: LimitFact, now: datetime) -> bool:
    return fact.resets_at is not None and fact.resets_at <= now


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
