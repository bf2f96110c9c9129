"""What a single value means, whichever encoding it came in: counts, times, ids, and how much is too much."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tokentide_common.errors import InvalidRequest, TooLarge
from tokentide_ingest.otlp.telemetry import Attributes, Decoded

MAX_TEXT: Final = 1024
"""Longer texts are content: they are not kept, not even in part."""
MAX_NAME: Final = 256
MAX_RECORDS: Final = 50_000
"""Records, points or spans of one request, with the resources and scopes around them."""
_MAX_REASONS: Final = 10
_MAX_DIGITS: Final = 20
_TODAYS_DIGITS: Final = 19
"""Of a time in nanoseconds until the year 2286; so many never exceed 64 bits."""
MAX_INT64: Final = 2**63 - 1
_MAX_UINT64: Final = 2**64 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_A_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_HEX: Final = re.compile(r"[0-9a-fA-F]*")


def whole(value: float | str | None) -> int:
    """Return a whole number written as a number or as text; nothing is 0. Raises `ValueError`."""
    if value is None:
        return 0
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if len(value) > _MAX_DIGITS or not (digits.isascii() and digits.isdigit()):
            raise ValueError("not a whole number")
        return int(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    return int(value)


def int64(value: float | str | None) -> int:
    """Return a whole number of 64 bits. Raises `ValueError`."""
    number = whole(value)
    if not -MAX_INT64 - 1 <= number <= MAX_INT64:
        raise ValueError("over 64 bits")
    return number


def nanos(value: float | str | None) -> int:
    """Return a time in nanoseconds; 0: it is not said. Raises `ValueError`."""
    if type(value) is str and len(value) == _TODAYS_DIGITS and value.isascii() and value.isdigit():
        return int(value)  # as nearly all are written
    if value is None or value == "":
        return 0
    number = whole(value)
    if not 0 <= number <= _MAX_UINT64:
        raise ValueError("not a time")
    return number


def floating(value: float | str) -> float:
    """Return a number written as a number or as text, `NaN` and infinity too. Raises `ValueError`."""
    if isinstance(value, str) and len(value) > 64:
        raise ValueError("not a number")
    return float(value)


def finite(value: float) -> bool:
    """Tell whether a number can be counted with."""
    return math.isfinite(value)


def stated_nanos(attributes: Attributes) -> int:
    """Return the time in the attribute `event.timestamp` (ISO 8601, UTC if it names no zone), 0 if none."""
    stated = attributes.get("event.timestamp")
    if not isinstance(stated, str):
        return 0
    try:
        time = datetime.fromisoformat(stated)
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return 0
    return max(0, since // timedelta(microseconds=1) * 1000)


def event_name(said: str | None, attributes: Attributes) -> str:
    """Return the event's name: the attribute `event.name`, else the record's own.

    In this order, since Codex names the event in the attribute and a line of its source in the record.
    """
    name = attributes.get("event.name") or said
    return name if isinstance(name, str) and len(name) <= MAX_NAME else ""


def name_in_body(body: str | None) -> str:
    """Return a body that is a bare name; any other text is content."""
    return body if body and _A_NAME.fullmatch(body) else ""


def hexadecimal(text: str | None, digits: int) -> str:
    """Return an id in lower case. Raises `ValueError`."""
    if text is None or len(text) != digits or not _HEX.fullmatch(text):
        raise ValueError("not an id")
    return text.lower()


def refuse(decoded: Decoded[Any], reason: str) -> None:
    """Count one record as refused and say why, once per reason."""
    decoded.rejected += 1
    if reason not in decoded.reasons and len(decoded.reasons) < _MAX_REASONS:
        decoded.reasons.append(reason)


def check_count(parts: int) -> None:
    """Raise `TooLarge` for more parts of a request than are taken at once."""
    if parts > MAX_RECORDS:
        raise too_many()


def too_many() -> TooLarge:
    """Return the error for a request with too many records."""
    return TooLarge(
        f"a request has at most {MAX_RECORDS} records; send smaller batches", code="too_many_records"
    )


def malformed(what: str) -> InvalidRequest:
    """Return the error for a body that is unreadable as a whole."""
    return InvalidRequest(what, code="malformed_body")
