"""What an answer's headers say of the provider's limits. Pure; what it does not understand it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from tokentide_common.limit_facts import LimitFact

_PREFIXES: Final = (b"anthropic-ratelimit-", b"x-ratelimit-", b"retry-after")
_ACCOUNTS: Final = (b"anthropic-organization-id", b"openai-organization")
_MEASURES: Final = ("limit", "remaining", "reset", "utilization", "status")
_MOST_LIMITS: Final = 32
_MOST_BYTES: Final = 128
_MAX_AMOUNT: Final = 2**53
_KIND: Final = re.compile(r"[a-z0-9_]{1,64}")
_STATUS: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UTILIZATION: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,18})?", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_DURATION: Final = re.compile(
    r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m(?!s))?"
    r"(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,12}(?:\.[0-9]{1,9})?)ms)?",
    re.ASCII,
)
# A number this large is a moment, not a duration.
_EPOCH_FROM: Final = 1_000_000_000


class Observer(msgspec.Struct, frozen=True):
    """Whose limits they are, and when they were seen."""

    provider: str
    observed_at: datetime
    org_id: str = ""
    key_id: str = ""
    account_id: str = ""
    """Used where the answer names no account of its own."""


def limit_facts(headers: Iterable[tuple[bytes, bytes]], seen: Observer) -> list[LimitFact]:
    """Return the limits that an answer's headers tell, names in lower case; never raises."""
    said: dict[str, dict[str, str]] = {}
    account_id = ""
    for name, value in headers:
        if len(value) > _MOST_BYTES:
            continue
        if name.startswith(_PREFIXES):
            told = _told_by(name.decode("latin-1"))
            if told is not None and (told[0] in said or len(said) < _MOST_LIMITS):
                said.setdefault(told[0], {})[told[1]] = value.decode("latin-1").strip()
        elif name in _ACCOUNTS:
            account_id = value.decode("latin-1").strip()
    facts = (_fact(kind, measures, seen, account_id or seen.account_id) for kind, measures in said.items())
    return [fact for fact in facts if fact is not None]


def _told_by(name: str) -> tuple[str, str] | None:
    """Return the limit and the measure that a header's name stands for."""
    if name in ("retry-after", "retry-after-ms"):
        return "retry", name
    if name.startswith("x-ratelimit-"):
        measure, _, kind = name.removeprefix("x-ratelimit-").partition("-")
    else:
        kind, _, measure = name.removeprefix("anthropic-ratelimit-").rpartition("-")
    kind = kind.replace("-", "_")
    if measure not in _MEASURES or not _KIND.fullmatch(kind):
        return None
    return kind, measure


def _fact(kind: str, measures: dict[str, str], seen: Observer, account_id: str) -> LimitFact | None:
    resets_at = (
        _after(measures, seen.observed_at)
        if kind == "retry"
        else _moment(measures.get("reset", ""), seen.observed_at)
    )
    limit, remaining = _amount(measures.get("limit", "")), _amount(measures.get("remaining", ""))
    utilization = _matching(_UTILIZATION, measures.get("utilization", ""))
    status = _matching(_STATUS, measures.get("status", ""))
    if (resets_at, limit, remaining, utilization, status) == (None, None, None, "", ""):
        return None
    return LimitFact(
        provider=seen.provider,
        kind=kind,
        observed_at=seen.observed_at,
        org_id=seen.org_id,
        account_id=account_id,
        key_id=seen.key_id,
        limit=limit,
        remaining=remaining,
        utilization=utilization,
        resets_at=resets_at,
        status=status,
    )


def _after(measures: dict[str, str], now: datetime) -> datetime | None:
    millis = measures.get("retry-after-ms", "")
    if _SECONDS.fullmatch(millis):
        return _later(now, float(millis) / 1000)
    text = measures.get("retry-after", "")
    if _SECONDS.fullmatch(text):
        return _later(now, float(text))
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _moment(text: str, now: datetime) -> datetime | None:
    """Read an RFC 3339 time, Unix seconds, or a duration from now (`6m0s`, `20ms`, `1.5`)."""
    if _SECONDS.fullmatch(text):
        number = float(text)
        return _later(datetime.fromtimestamp(0, UTC) if number >= _EPOCH_FROM else now, number)
    duration = _DURATION.fullmatch(text) if text else None
    if duration is not None:
        days, hours, minutes, seconds, millis = (float(part or 0) for part in duration.groups())
        return _later(now, ((days * 24 + hours) * 60 + minutes) * 60 + seconds + millis / 1000)
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _later(moment: datetime, seconds: float) -> datetime | None:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _amount(text: str) -> int | None:
    # Some gateways write -1 for "none".
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        return None
    return min(int(text), _MAX_AMOUNT)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""
