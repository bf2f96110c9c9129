"""The load of every benchmark: calls as Claude Code's logs tell them, with repeats, and the truth about them.

Emission `n` either speaks of a new call or, one time in ten, again of an earlier one: as before, with more
output (an upgrade) or with less (an older state, that must change nothing), a third each. 70 % of the repeats
come soon, 30 % come from anywhere earlier. Two calls of a hundred happened up to ten days before the others.
Everything is a pure function of `n`, so that the truth needs neither the records nor the product's code.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from genai_prices import Usage, calc_price

from tokentide_common.events import UsageEvent, encode_event

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

CALLS_PER_HOUR: Final = 20_833  # 1000 users an hour of 10,000, about 20 calls each
START_MS: Final = 1_788_220_800_000  # 2026-09-01 UTC
USERS: Final = 10_000
ORGS: Final = 20
MODELS: Final = (
    "claude-opus-4-5-20251101",
    "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5-20251001",
    "claude-opus-4-1-20250805",
)
MEASURES: Final = (
    *("calls", "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "cost_nano"),
)
_TAIL: Final = b',"sources":["cli"],"token_source":"cli","version":1,"price_version":"bench","cost_nano":%d}'
_ALTCHARS: Final = b"xQ"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Calls(msgspec.Struct):
    """Emissions as columns."""

    n: I64
    idx: I64
    """The call that the emission speaks of: the number of its first emission."""
    h: U64
    user: I64
    hour: I64
    model: I64
    occurred_ms: I64
    observed_ms: I64
    input_tokens: I64
    cache_read_tokens: I64
    cache_write_5m_tokens: I64
    cache_write_1h_tokens: I64
    output_tokens: I64
    cost_nano: I64


def mix(x: U64) -> U64:
    """SplitMix64's finalizer: a number that looks random, from each number."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _bits(h: U64, shift: int, modulus: int) -> I64:
    return ((h >> np.uint64(shift)) % np.uint64(modulus)).astype(np.int64)


def nano_rates() -> I64:
    """Return nano-USD per token by model and bucket, as genai-prices' own calculation has them."""
    kinds = (
        {},
        {"cache_read_tokens": 1000},
        {"cache_write_tokens": 1000, "cache_write_5m_tokens": 1000},
        {"cache_write_tokens": 1000, "cache_write_1h_tokens": 1000},
        {"output_tokens": 1000},
    )
    at = datetime(2026, 9, 1, tzinfo=UTC)

    def rate(model: str, kind: dict[str, int]) -> int:
        usage = Usage(**({"input_tokens": 1000 if "output_tokens" not in kind else 0} | kind))
        price = calc_price(usage, model, provider_id="anthropic", genai_request_timestamp=at).total_price
        return int(price * 10**6)

    return np.array([[rate(model, kind) for kind in kinds] for model in MODELS], dtype=np.int64)


def calls(first: int, count: int, rates: I64, *, repeats: bool = True) -> Calls:
    """Return emissions `first` … `first + count`; without repeats, every emission is a call's first."""
    n = np.arange(first, first + count, dtype=np.int64)
    hn = mix(n.astype(np.uint64) ^ np.uint64(0x5EED << 40))
    again = (n % 10 == 9) & (n > 20) & repeats
    near = n - 1 - np.minimum(_bits(hn, 8, 5000), n - 2)
    source = np.where(hn % np.uint64(10) < 7, near, (_bits(hn, 8, 1 << 50)) % np.maximum(n, 1))
    source = np.where(source % 10 == 9, source - 1, source)
    idx = np.where(again, source, n)
    variant = np.where(again, _bits(hn, 40, 3), 0)
    h = mix(idx.astype(np.uint64))
    hour = idx // CALLS_PER_HOUR
    user = _bits(mix((hour * 1000 + _bits(h, 3, 1000)).astype(np.uint64)), 0, USERS)
    model = np.where(h % np.uint64(3) < 2, user % 3, _bits(h, 5, 4))
    late = np.where(_bits(h, 9, 50) == 0, _bits(h, 20, 864_000) * 1000, 0)
    tokens = {
        "input_tokens": _bits(h, 1, 977) + 1,
        "cache_read_tokens": _bits(h, 16, 120_000),
        "cache_write_5m_tokens": _bits(h, 24, 9000),
        "cache_write_1h_tokens": np.where(_bits(h, 11, 11) == 0, _bits(h, 30, 5000), 0),
        "output_tokens": 50
        + _bits(h, 8, 2000)
        + np.where(variant == 1, 500 + n % 100, 0)
        - np.where(variant == 2, 30, 0),
    }
    return Calls(
        n=n,
        idx=idx,
        h=h,
        user=user,
        hour=hour,
        model=model,
        occurred_ms=START_MS + idx * 3_600_000 // CALLS_PER_HOUR - late,
        observed_ms=START_MS + n * 3_600_000 // CALLS_PER_HOUR + 4000,
        cost_nano=sum(rates[model, kind] * column for kind, column in enumerate(tokens.values())),
        **tokens,
    )


def truth(first: int, count: int, *, history: int = 0) -> dict[str, int]:
    """Return what the rollups must add up to after emissions `first` … `first + count`.

    `history`: so many emissions before `first` were stored, each call as its first emission has it.
    """
    rates = nano_rates()
    end = first + count
    output = np.zeros(end, dtype=np.int64)
    for low in range(first - history, end, 1_000_000):
        for a, b, repeats in _stretches(low, min(low + 1_000_000, end), first):
            part = calls(a, b - a, rates)
            keep = slice(None) if repeats else part.n == part.idx
            np.maximum.at(output, part.idx[keep], part.output_tokens[keep])
    totals = dict.fromkeys(MEASURES, 0)
    for low in range(0, end, 1_000_000):
        part = calls(low, min(low + 1_000_000, end) - low, rates, repeats=False)
        counted = output[low : low + len(part.n)] > 0
        # The emission's own output is that of a first sight; the truth is the greatest ever said.
        greatest = output[low : low + len(part.n)]
        part.cost_nano += (greatest - part.output_tokens) * rates[part.model, 4]
        part.output_tokens = greatest
        totals["calls"] += int(counted.sum())
        for name in MEASURES[1:]:
            totals[name] += int(getattr(part, name)[counted].sum())
    return totals


def _stretches(low: int, high: int, first: int) -> Iterator[tuple[int, int, bool]]:
    if low < first:
        yield low, min(high, first), False
    if high > first:
        yield max(low, first), high, True


def records(first: int, count: int, rates: I64) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of emissions: the event as ingest writes it on the topic.

    After it follow the columns that the aggregator would compute, so that the bytes can also go into the
    ledger as they are; whoever reads the event skips them.
    """
    for low in range(first, first + count, 50_000):
        part = calls(low, min(50_000, first + count - low), rates)
        for event, cost in _events(part):
            tail = (
                b',"sources":["cli"],"token_source":"cli","version":1,"price_version":"bench","cost_nano":%d}'
            )
            yield event.call_id.encode(), encode_event(event)[:-1] + tail % cost


def first_sights(first: int, count: int, rates: I64) -> list[tuple[UsageEvent, int]]:
    """Return (event, cost) of the calls that begin in a stretch of emissions."""
    part = calls(first, count, rates)
    fresh = part.n == part.idx
    return list(_events(Calls(**{name: getattr(part, name)[fresh] for name in Calls.__struct_fields__})))


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


@lru_cache(USERS)
def _person(user: int) -> dict[str, str]:
    return {
        "org_id": f"org_{user % ORGS:04d}",
        "user_id": f"user-{user:05d}",
        "user_email": f"user-{user:05d}@corp.example",
        "key_id": f"key_{user:08d}",
        "git_branch": f"feature/{user % 50}",
        "team": f"team-{user % 40}",
    }


@lru_cache(1 << 16)
def _uuid(*parts: int) -> str:
    raw = hashlib.md5(b"%d:" * len(parts) % parts).hexdigest()
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def _events(part: Calls) -> Iterator[tuple[UsageEvent, int]]:
    names: tuple[str, ...] = Calls.__struct_fields__
    columns: list[list[Any]] = [getattr(part, name).tolist() for name in names]
    for row in zip(*columns, strict=True):
        yield _event(*row)


def _event(
    n: int,
    idx: int,
    h: int,
    user: int,
    hour: int,
    model: int,
    occurred_ms: int,
    observed_ms: int,
    fresh: int,
    read: int,
    write_5m: int,
    write_1h: int,
    output: int,
    cost: int,
) -> tuple[UsageEvent, int]:
    digest = hashlib.blake2b(b"call %d" % idx, digest_size=33).digest()
    ids = base64.b64encode(digest, _ALTCHARS).decode()
    started = START_MS + (hour - hour % 2) * 3_600_000
    event = UsageEvent(
        call_id="req_011C" + ids[:22],
        source="cli",
        occurred_at=_time(occurred_ms),
        observed_at=_time(observed_ms),
        message_id="msg_01" + ids[22:],
        request_id="req_011C" + ids[:22],
        client="claude-code",
        **_person(user),
        machine_id=f"mbp-{user * 2 + (h % 7 == 0):06d}",
        session_id=_uuid(user, hour // 2),
        session_started_at=_time(started),
        project=f"github.com/acme/repo-{(user * 7 + hour // 6 + h % 2) % 400}",
        prompt_id=_uuid(user, hour, h % 5),
        tags={"entrypoint": "cli"},
        provider="anthropic",
        model=MODELS[model],
        stop_reason="tool_use" if h % 4 else "end_turn",
        service_tier="standard",
        speed="standard",
        effort="medium",
        input_tokens=fresh,
        cache_read_tokens=read,
        cache_write_tokens=write_5m + write_1h,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
    )
    return event, cost
