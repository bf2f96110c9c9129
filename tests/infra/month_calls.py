"""A month of calls, drawn from a seed: what really happened, what each source says of it, and the record.

Every source is honest and knows a part: a log has placeholders, telemetry no split of cache writes, a proxy
only what came by. So the record of a call is, field by field, what the best of those who saw it knows; lines
of forked sessions, copies on other machines and repeats say nothing new, whenever they come.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from infra.month_people import FIRST, NOW, TOKENS, Person, Row, costs_of

TRUST: Final = ("proxy", "otlp", "link", "api", "cli", "proxy-aborted", "cli-aborted")
"""Who is believed before whom."""
TEXTS: Final = (
    "session_id", "machine_id", "key_id", "user_email", "account_id", "device_id", "project", "git_branch",
    "team", "department", "cost_center", "identity_provider", "agent", "prompt_id", "client", "provider",
    "model", "error_type", "stop_reason", "service_tier", "effort", "inference_geo", "query_source",
)  # fmt: skip
NUMBERS: Final = (
    *("http_status", "duration_ms", "ttft_ms", "retry_attempt", "reasoning_tokens", "web_search_requests"),
)
MILLISECOND: Final = timedelta(milliseconds=1)
Told = dict[str, Any]


class Turn(NamedTuple):
    """A call as it really was."""

    at: datetime
    true: Told
    """What only depends on the call itself, by the names of events."""
    lasted_ms: int

    @property
    def ended(self) -> datetime:
        return self.at + self.lasted_ms * MILLISECOND


def recorded(org_id: str, call_id: str, said: Mapping[str, Told]) -> Row:
    """Return what must be on record of a call of which these said so much."""
    told = [said[who] for who in TRUST if who in said]
    saw = {who: said[who] for who in TRUST if who in said and who != "link"}
    best, counted_by = next(iter(saw)), next((who for who in saw if _has_tokens(saw[who])), next(iter(saw)))
    counted = saw[counted_by]
    written = counted.get("cache_write_tokens", 0)
    hour = next((o.get("cache_write_1h_tokens", 0) for o in saw.values() if _has_split(o)), 0)
    row = {name: next((o[name] for o in told if o.get(name)), "") for name in TEXTS}
    row |= {name: next((o[name] for o in told if o.get(name)), 0) for name in NUMBERS}
    row |= {name: counted.get(name, 0) for name in TOKENS}
    row |= {
        "cache_write_1h_tokens": min(hour, written),
        "cache_write_5m_tokens": written - min(hour, written),
    }
    row["reasoning_tokens"] = min(row["reasoning_tokens"], row["output_tokens"])
    asked_for = saw.get("otlp", {}).get("speed", "")
    row["speed"] = next((o["speed"] for who, o in saw.items() if o.get("speed") and who != "otlp"), asked_for)
    row |= {
        "org_id": org_id,
        "call_id": call_id,
        "occurred_at": min(o["occurred_at"] for o in saw.values()),
        "user_id": _person(told),
        "is_sidechain": any(o.get("is_sidechain") for o in told),
        "status": saw[best].get("status", "ok"),
        "tags": {k: v for o in reversed(told) for k, v in o.get("tags", {}).items()},
        "sources": sorted({who.split("-")[0] for who in saw}),
        "token_source": counted_by.split("-")[0],
        "reported_cost_nano": next((o["reported_nano"] for o in told if o.get("reported_nano")), 0),
    }
    costs = costs_of(row)
    used = any(row[name] for name in TOKENS)
    return {**row, "cost_nano": sum((costs or {}).values()), "unpriced": costs is None and used}


def _has_tokens(said: Told) -> bool:
    return any(said.get(name) for name in (*TOKENS, "cache_write_tokens"))


def _has_split(said: Told) -> bool:
    return bool(said.get("cache_write_5m_tokens") or said.get("cache_write_1h_tokens"))


def _person(told: list[Told]) -> str:
    """Whom telemetry names with an address, else a name, else the device."""
    seeing = [o["user_id"] for o in told if o.get("user_email") and o.get("source") != "cli"]
    named = [o["user_id"] for o in told if o.get("user_id") and o["user_id"] != o.get("device_id")]
    return next(iter([*seeing, *named, *(o["user_id"] for o in told if o.get("user_id"))]), "")


def conversations(rng: random.Random, person: Person) -> Iterator[tuple[datetime, list[Turn]]]:
    """Yield the sessions of a person's month: when each began, and its calls."""
    zone = ZoneInfo(person.zone)
    day = FIRST.astimezone(zone).date()
    while day <= NOW.date():
        at_work = 0.75 if day.weekday() < 5 else 0.3
        for _ in range((rng.random() < at_work) + (rng.random() < 0.25)):
            hour = rng.choices(range(24), [2, 2, 2, 1, 0, 0, 0, 1, *[6] * 10, 3, 3, 2, 2, 2, 3])[0]
            wall = datetime(day.year, day.month, day.day, hour, rng.randrange(60), tzinfo=zone)
            began = wall.astimezone(UTC) + timedelta(milliseconds=rng.randrange(60_000))
            if FIRST <= began < NOW - timedelta(minutes=5):
                yield began, [turn for turn in _turns(rng, person, began) if turn.ended < NOW]
        day += timedelta(days=1)


def _turns(rng: random.Random, person: Person, at: datetime) -> Iterator[Turn]:
    model = rng.choice(person.models)
    anthropic, long_kept = model.startswith("claude"), rng.random() < 0.4
    cached = 180_000 if rng.random() < 0.12 else 0
    agent = ""
    for number in range(rng.randint(2, 22)):
        gap_s = rng.choices((rng.uniform(2, 90), rng.uniform(310, 1500), rng.uniform(3700, 9000)), (90, 8, 2))
        at += timedelta(milliseconds=round(gap_s[0] * 1000) if number else 0)
        if rng.random() < 0.06:  # exactly on a boundary of minutes, quarters, and perhaps days
            at = (at + timedelta(minutes=15)).replace(second=0, microsecond=0)
            at -= timedelta(minutes=at.minute % rng.choice((1, 15)))
        if anthropic and rng.random() < 0.04:
            model = rng.choice([m for m in person.models if m.startswith("claude")])
        agent = rng.choice(("Explore", "")) if rng.random() < 0.15 else agent
        fresh = rng.randrange(100, 7000)
        kept = cached if rng.random() > 0.06 else cached * rng.choice((33, 49, 51)) // 100
        kept = 0 if gap_s[0] > 300 and not long_kept else kept
        written = cached - kept + fresh if anthropic else 0
        hour = written if long_kept else written // 2 if rng.random() < 0.1 else 0
        output = rng.randrange(9, 4000)
        lasted_ms, first_ms = rng.randrange(400, 90_000), rng.randrange(100, 400)
        yield Turn(at, {
            "model": model,
            "provider": _provider(model),
            "agent": agent,
            "is_sidechain": bool(agent),
            "stop_reason": rng.choice(("end_turn", "tool_use")),
            "effort": rng.choice(("high", "medium")),
            "speed": "fast" if model == "claude-opus-5" and rng.random() < 0.3 else "standard",
            "inference_geo": "us" if model == "claude-opus-5" and rng.random() < 0.3 else "",
            "service_tier": "batch" if person.way == "api" and anthropic else "standard",
            "prompt_id": f"prompt-{rng.getrandbits(32):08x}",
            "input_tokens": rng.randrange(1, 300) if anthropic else cached - kept + fresh,
            "cache_read_tokens": kept,
            "cache_write_tokens": written,
            "cache_write_5m_tokens": written - hour,
            "cache_write_1h_tokens": hour,
            "output_tokens": output,
            "reasoning_tokens": rng.choice((0, rng.randrange(output))),
            "web_search_requests": rng.choice((1, 3)) if anthropic and rng.random() < 0.03 else 0,
            "ttft_ms": first_ms,
        }, lasted_ms)  # fmt: skip
        cached += fresh
        at += MILLISECOND * lasted_ms


def _provider(model: str) -> str:
    prefixes = {"claude": "anthropic", "gpt-": "openai", "gemini": "google"}
    return next((name for prefix, name in prefixes.items() if model.startswith(prefix)), "")
