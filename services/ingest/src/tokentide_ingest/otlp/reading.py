"""Values out of attributes: texts, counts, times. Clients send numbers as numbers and as text.

What a call consists of must make sense, or the record is refused with a reason that names the attribute and
never quotes its value. What only decorates a call (durations, status codes) is left out if it makes none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from tokentide_common.errors import InvalidEvent
from tokentide_common.events import MAX_COUNT, MAX_RETRIES
from tokentide_ingest.otlp.telemetry import Attributes, Scalar

MAX_TEXT: Final = 256
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Far beyond what an event may say, and within what a datetime can.
_MAX_TIME_NS: Final = 2**63
_MAX_DIGITS: Final = 24
# What clients that write every value as text write where there is none. As ids these would be one for many.
_NOTHING: Final = frozenset(("undefined", "null", "None"))
_DAY_MS: Final = 86_400_000
_MAX_USD: Final = 999_999.999_999_999
_ROUNDED_TO_NOTHING: Final = 0.5e-9
# An error's type is a word; whatever has spaces or quotes is a message, which may quote a prompt.
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}")


def text(attributes: Attributes, key: str, limit: int = MAX_TEXT) -> str:
    """Return a text that decorates, cut to what an event can hold; "" where there is none."""
    value = attributes.get(key, "")
    return value[:limit] if type(value) is str else _spelled(value)[:limit]


def identifier(attributes: Attributes, key: str) -> str:
    """Return a text that must be whole or nothing; raises `InvalidEvent` when it is too long."""
    value = attributes.get(key, "")
    spelled = value if type(value) is str else _spelled(value)
    if len(spelled) > MAX_TEXT:
        raise InvalidEvent(f"{key} is longer than {MAX_TEXT} characters")
    return "" if spelled in _NOTHING else spelled


def first(attributes: Attributes, keys: Iterable[str]) -> str:
    """Return the first of several texts that says something."""
    return next((said for key in keys if (said := text(attributes, key))), "")


def word(attributes: Attributes, key: str) -> str:
    """Return a name like `rate_limit_error`; "" for anything that could be a sentence."""
    value = attributes.get(key, "")
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def count(attributes: Attributes, key: str) -> int:
    """Return a number of tokens, 0 where there is none; raises `InvalidEvent` for what is no such number."""
    value = attributes.get(key, 0)
    number = value if type(value) is int else _whole(value)
    if number is None:
        raise InvalidEvent(f"{key} is not a whole number")
    if not 0 <= number <= MAX_COUNT:
        raise InvalidEvent(f"{key} is negative or absurd")
    return number


def counts(attributes: Attributes, keys: Iterable[str]) -> list[int]:
    """Return what `count` returns for each of several names."""
    found = []
    for key in keys:
        value = attributes.get(key, 0)
        # Nearly all are plain numbers: a call for each costs more than reading it.
        if type(value) is int and 0 <= value <= MAX_COUNT:
            found.append(value)
        else:
            found.append(count(attributes, key))
    return found


def first_count(attributes: Attributes, keys: Iterable[str]) -> int | None:
    """Return the count under the first of several names that is there, `None` where none is."""
    return next((count(attributes, key) for key in keys if key in attributes), None)


def millis(attributes: Attributes, key: str) -> int:
    """Return a duration in milliseconds; 0 where there is none, or none that a call can take."""
    value = attributes.get(key, 0)
    if type(value) is not int:
        value = round(_number(value) or 0)
    return value if 0 <= value <= _DAY_MS else 0


def retry_attempt(attributes: Attributes, *, first: int) -> int:
    """Return how often it was tried before, by an `attempt` that counts from `first`; 0 if that is unsaid."""
    number = _whole(attributes["attempt"]) if "attempt" in attributes else None
    return number - first if number is not None and 0 <= number - first <= MAX_RETRIES else 0


def status_code(attributes: Attributes, *keys: str) -> int:
    """Return the HTTP status under the first of several names; 0 where there is none."""
    for key in keys:
        number = _whole(attributes.get(key, 0))
        if number is not None and 100 <= number <= 599:
            return number
    return 0


def flag(attributes: Attributes, key: str) -> bool | None:
    """Return a yes or no, which some clients spell; `None` where there is neither."""
    value = attributes.get(key)
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def dollars(attributes: Attributes, key: str) -> str:
    """Return what a client says that a call cost; "" where that is no price.

    A client's figure is a binary fraction that is off by less than a billionth of a dollar
    (0.0056787999999999995): in whole nano-dollars, in which money is kept, it is the figure that was meant.
    """
    value = attributes.get(key, "")
    if isinstance(value, bool) or (not isinstance(value, float) and len(str(value)) > _MAX_DIGITS):
        return ""
    try:
        amount = float(value)
    except ValueError:
        return ""
    if not _ROUNDED_TO_NOTHING < amount < _MAX_USD:  # nor is NaN in between
        return ""
    # Below the bound a binary fraction holds every nano-dollar: none is lost.
    return f"{amount:.9f}".rstrip("0").rstrip(".")


def moment(time_ns: int) -> datetime:
    """Return the time of a record; raises `InvalidEvent` where it has none, or none that can be."""
    if not 0 < time_ns < _MAX_TIME_NS:
        raise InvalidEvent("the time is missing or out of range", code="timestamp_out_of_range")
    return _EPOCH + timedelta(0, 0, time_ns // 1000)


def _spelled(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _whole(value: Scalar) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _number(value: Scalar) -> float | int | None:
    """Return a finite number, `None` for what is none; text counts as what it spells."""
    if isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
            return int(value)
        try:
            value = float(value or 0) if len(value) <= _MAX_DIGITS else float("nan")
        except ValueError:
            return None
    if isinstance(value, bool) or (isinstance(value, float) and not abs(value) < float("inf")):
        return None
    return value
