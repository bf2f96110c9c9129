"""What an answer's headers say of the provider's limits. Pure; what it does not understand it leaves out.

Names, and most values, repeat from answer to answer: what they mean is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

from tokentide_common.limit_facts import LimitFact
from tokentide_proxy.exchange import Observer

_RETRY: Final = {"retry-after": "resets_at", "retry-after-ms": "resets_after_ms"}
_ANTHROPICS, _OPENAIS = b"anthropic-organization-id", b"openai-organization"
_ACCOUNTS: Final = (_ANTHROPICS.decode(), _OPENAIS.decode())
_ANTHROPIC: Final = re.compile(
    # `anthropic-priority-input-tokens-limit` has no `ratelimit` in it; `priority` belongs to the kind.
    r"anthropic-(?:ratelimit-)?((?<=ratelimit-)[a-z0-9_-]+|priority-[a-z0-9_-]+)"
    r"-(limit|remaining|reset|utilization|status)"
)
_OPENAI: Final = re.compile(r"x-ratelimit-(limit|remaining|reset)-([a-z0-9_-]+)")
# `x-codex-primary-used-percent`; further limits have a name of their own: `x-codex-<name>-primary-…`.
_CODEX: Final = re.compile(
    r"x-(codex(?:-[a-z0-9-]+)?-(?:primary|secondary))"
    r"-(used-percent|window-minutes|reset-at|reset-after-seconds)"
)
_CODEX_MEASURES: Final = {
    "used-percent": "used_percent",
    "window-minutes": "window_minutes",
    "reset-at": "resets_at",
    "reset-after-seconds": "resets_at",
}
# Windows of a subscription, which all models share.
_OF_ALL_MODELS: Final = ("unified", "codex")
_MOST_LIMITS: Final = 32
_MOST_BYTES: Final = 128
_MAX_KIND: Final = 64
_AMOUNT_DIGITS: Final = 15
_REMEMBERED: Final = 2048
_REMEMBERED_SETS: Final = 256
_STATUS: Final = re.compile(rb"[a-z][a-z0-9_]{0,63}")
_UTILIZATION: Final = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,18})?")
_PERCENT: Final = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,15})?")
_FIELDS: Final = {"resets_after_ms": "resets_at", "used_percent": "utilization"}
_SECONDS: Final = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,9})?")
_DURATION: Final = re.compile(
    rb"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m(?!s))?"
    rb"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,12}(?:\.[0-9]{1,9})?)ms)?"
)
# A number this large is a moment, not a duration.
_EPOCH_FROM: Final = 1_000_000_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def tells_limits(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether it is worth while to look closer."""
    return _tell_limits(tuple([name for name, _ in headers]))


@lru_cache(_REMEMBERED_SETS)  # a provider's answers have the same names again and again
def _tell_limits(names: tuple[bytes, ...]) -> bool:
    return any((told := _told_by(name)) is not None and told[0] for name in names)


def account_of(headers: Iterable[tuple[bytes, bytes]], seen: Observer) -> bytes | str:
    """Return what tells one account from another of those that answer to one key."""
    named = dict(headers)
    return named.get(_ANTHROPICS) or named.get(_OPENAIS) or seen.account_id


def limit_facts(headers: Iterable[tuple[bytes, bytes]], seen: Observer) -> list[LimitFact]:
    """Return the limits that an answer's headers tell, names in lower case; never raises."""
    said: dict[str, dict[str, Any]] = {}
    account_id = seen.account_id
    for name, value in headers:
        told = _told_by(name)
        if told is None or len(value) > _MOST_BYTES:
            continue
        kind, measure = told
        if measure == "account_id":
            account_id = value.decode("latin-1").strip()
            continue
        read = _read(measure, value, seen.observed_at)
        if read is not None and (kind in said or len(said) < _MOST_LIMITS):
            said.setdefault(kind, {})[_FIELDS.get(measure, measure)] = read
    return [
        LimitFact(
            provider=seen.provider,
            kind=kind,
            observed_at=seen.observed_at,
            org_id=seen.org_id,
            account_id=account_id,
            key_id=seen.key_id,
            model="" if kind.startswith(_OF_ALL_MODELS) else seen.model,
            **measures,
        )
        for kind, measures in said.items()
        if measures.get("window_minutes") != 0  # so a window is told that the account does not have
    ]


@lru_cache(_REMEMBERED)
def _told_by(header: bytes) -> tuple[str, str] | None:
    """Return the limit and the field that a header's name stands for."""
    name = header.decode("latin-1")
    if name in _RETRY:
        return "retry", _RETRY[name]
    if name in _ACCOUNTS:
        return "", "account_id"
    if found := _ANTHROPIC.fullmatch(name):
        kind, measure = found.groups()
    elif found := _OPENAI.fullmatch(name):
        measure, kind = found.groups()
    elif found := _CODEX.fullmatch(name):
        kind, measure = found[1], _CODEX_MEASURES[found[2]]
        return (kind.replace("-", "_"), measure) if len(kind) <= _MAX_KIND else None
    else:
        return None
    return (kind.replace("-", "_"), measure.replace("reset", "resets_at")) if len(kind) <= _MAX_KIND else None


def _read(measure: str, value: bytes, now: datetime) -> int | str | datetime | None:
    """Return a field's value, None if this is none."""
    if measure == "used_percent":
        return _part(value) if _PERCENT.fullmatch(value) else None
    if measure in ("limit", "remaining", "window_minutes"):
        # Some gateways write -1 for "none".
        return int(value) if value.isdigit() and len(value) <= _AMOUNT_DIGITS else None
    if measure == "resets_at":
        after = _moment_or_seconds(value)
        return _later(now, after) if isinstance(after, float) else after
    if measure == "resets_after_ms":
        return _later(now, float(value) / 1000) if _SECONDS.fullmatch(value) else None
    pattern = _STATUS if measure == "status" else _UTILIZATION
    return value.decode("latin-1") if pattern.fullmatch(value) else None


def _part(percent: bytes) -> str:
    return f"{Decimal(percent.decode('ascii')).scaleb(-2).normalize():f}"


@lru_cache(_REMEMBERED)
def _moment_or_seconds(value: bytes) -> datetime | float | None:
    """Read an RFC 3339 or HTTP time, Unix seconds, or a duration from now (`6m0s`, `20ms`, `1.5`)."""
    if _SECONDS.fullmatch(value):
        number = float(value)
        return _later(_EPOCH, number) if number >= _EPOCH_FROM else number
    duration = _DURATION.fullmatch(value) if value else None
    if duration is not None:
        days, hours, minutes, seconds, millis = (float(part or 0) for part in duration.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + millis / 1000
    text = value.decode("latin-1")
    try:
        moment = parsedate_to_datetime(text) if "," in text else datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _later(moment: datetime, seconds: float) -> datetime | None:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return None
