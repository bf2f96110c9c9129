"""What the reports of the month must say, added up call by call: plain dicts, whole nano-dollars, zoneinfo.

Nothing here is shared with the services, and nothing is prepared: each answer is read off the calls.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from infra.month_people import INPUTS, TOKENS, Row, costs_of, rates_of

Rows = list[dict[str, Any]]
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_COUNTED: Final = (*TOKENS, "reasoning_tokens", "web_search_requests")


def usd(nano: int) -> str:
    return f"{(Decimal(nano) / 10**9).normalize() + 0:f}"


def share(part: int | Decimal, whole: int | Decimal) -> float:
    return round(float(part / whole), 6) if whole else 0.0  # type: ignore[operator]  # both of one type


def total(calls: Iterable[Row], name: str) -> int:
    return sum(call[name] for call in calls)


def cost(calls: Iterable[Row]) -> int:
    return total(calls, "cost_nano")


def tokens(calls: Iterable[Row]) -> int:
    return sum(call[name] for call in calls for name in TOKENS)


VALUES: Final[dict[str, Callable[[Sequence[Row]], int]]] = {"cost": cost, "tokens": tokens, "calls": len}


def measured(calls: Sequence[Row]) -> dict[str, Any]:
    """The measures that nearly every answer has."""
    return {
        "calls": len(calls),
        "errors": sum(call["status"] != "ok" for call in calls),
        **{name: total(calls, name) for name in _COUNTED},
        "total_tokens": tokens(calls),
        "cost_usd": usd(cost(calls)),
        "reported_cost_usd": usd(total(calls, "reported_cost_nano")),
        "unpriced_calls": sum(call["unpriced"] for call in calls),
    }


def by(calls: Iterable[Row], key: Callable[[Row], Hashable] | str) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for call in calls:
        groups[call[key] if isinstance(key, str) else key(call)].append(call)
    return groups


def known(calls: Iterable[Row], name: str) -> set[str]:
    return {call[name] for call in calls} - {""}


def local_day(call: Row, zone: ZoneInfo) -> date:
    return call["occurred_at"].astimezone(zone).date()


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def hour_began(at: datetime, zone: ZoneInfo) -> datetime:
    """When the hour that a wall clock shows began, or the clock was last changed in it."""
    local = at.astimezone(zone)
    began = (local.astimezone(UTC) - timedelta(minutes=local.minute)).replace(second=0, microsecond=0)
    while began.astimezone(zone).utcoffset() != local.utcoffset():
        began += timedelta(minutes=1)
    return began


def usual_email(calls: Iterable[Row]) -> str:
    emails = Counter(call["user_email"] for call in calls if call["user_email"])
    return max(emails, key=lambda email: (emails[email], email), default="")


def top_users(calls: list[Row], zone: ZoneInfo, metric: str) -> Rows:
    value = VALUES[metric]
    users = {user: own for user, own in by(calls, "user_id").items() if user}
    return [
        {
            "rank": rank,
            "user_id": user,
            "user_email": usual_email(own),
            "organization": own[0]["org_id"],
            **measured(own),
            "sessions": len(known(own, "session_id")),
            "active_days": len({local_day(call, zone) for call in own}),
            "share": share(value(own), value(calls)),
        }
        for rank, (user, own) in enumerate(sorted(users.items(), key=lambda one: (-value(one[1]), one[0])), 1)
    ]


def monthly(calls: list[Row], zone: ZoneInfo, *, detail: bool) -> Rows:
    names = ("user_id", "model") if detail else ("user_id",)
    emails = {user: usual_email(own) for user, own in by(calls, "user_id").items()}
    groups = by(calls, lambda c: (f"{local_day(c, zone):%Y-%m}", *(c[n] for n in names)))
    order = sorted(groups.items(), key=lambda one: (one[0][0], -cost(one[1]), one[0]))
    return [
        {
            "month": key[0],
            "user_email": emails[key[1]],
            **dict(zip(names, key[1:], strict=True)),
            **measured(own),
        }
        for key, own in order
    ]


def quota(calls: list[Row], zone: ZoneInfo, until: datetime, bounds: dict[str, Decimal]) -> Rows:
    today = until.astimezone(zone).date()
    firsts = {
        "day": today,
        "week": today - timedelta(days=today.weekday()),
        "month": today.replace(day=1),
    }
    rows = []
    for bound, limit in bounds.items():
        window, unit = bound.split("_")
        since = midnight(firsts[window], zone)
        for user, own in by((c for c in calls if since <= c["occurred_at"] <= until), "user_id").items():
            used = Decimal(tokens(own)) if unit == "tokens" else Decimal(usd(cost(own)))
            rows.append({
                "user_id": user, "window": window, "since": since.astimezone(zone).isoformat(), "unit": unit,
                "used": f"{used:f}", "limit": f"{limit:f}", "remaining": f"{max(limit - used, Decimal(0)):f}",
                "utilization": float(round(used / limit, 6)),
                "status": "over" if used > limit else "near" if 10 * used >= 9 * limit else "within",
            })  # fmt: skip
    rows = [row for row in rows if row["user_id"]]
    return sorted(rows, key=lambda r: (-r["utilization"], r["user_id"], r["window"], r["unit"]))


KINDS: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
    "web_search": "web_search_requests",
}


def kinds_of(calls: list[Row]) -> list[tuple[str, int, int]]:
    """Each kind of token that there is any of: how many, and their cost. Nothing is left to explain."""
    costs = [costs_of(call) or {} for call in calls]
    every = [(kind, total(calls, name), sum(c.get(name, 0) for c in costs)) for kind, name in KINDS.items()]
    assert sum(nano for *_, nano in every) == cost(calls)
    return [one for one in every if one[1]]


def model_token_types(calls: list[Row]) -> Rows:
    models = sorted(by(calls, "model").items(), key=lambda one: (-cost(one[1]), one[0]))
    return [
        {"model": model, "token_type": kind, "amount": amount, "cost_usd": usd(nano),
         "cost_share": share(nano, cost(calls)), "users": len(known(own, "user_id"))}
        for model, own in models
        for kind, amount, nano in kinds_of(own)
    ]  # fmt: skip


def cost_attribution(calls: list[Row], zone: ZoneInfo) -> Rows:
    groups = by(calls, lambda c: (hour_began(c["occurred_at"], zone), c["user_id"], c["model"]))
    rows, so_far = [], Counter[str]()
    for (hour, user, model), own in sorted(groups.items()):
        for kind, amount, nano in kinds_of(own):
            so_far[user] += nano
            rows.append({
                "hour": hour.astimezone(zone).isoformat(), "user_id": user, "organization": own[0]["org_id"],
                "model": model, "token_type": kind, "amount": amount, "cost_usd": usd(nano),
                "user_running_cost_usd": usd(so_far[user]), "running_cost_usd": usd(so_far.total()),
            })  # fmt: skip
    return rows


def activity_pattern(calls: list[Row], zone: ZoneInfo) -> Rows:
    local = [(call["occurred_at"].astimezone(zone), call) for call in calls]
    cells = defaultdict(list)
    for at, call in local:
        cells[at.weekday(), at.hour].append(call)
    return [
        {"weekday": WEEKDAYS[day], "weekday_number": day + 1, "hour": hour, **measured(cells[day, hour])}
        for day in range(7)
        for hour in range(24)
    ]


def split_by(calls: list[Row], name: str, key: Callable[[Row], str]) -> Rows:
    groups = sorted(by(calls, key).items(), key=lambda one: (-cost(one[1]), -tokens(one[1]), one[0]))
    who = "user_email" if name == "email_domain" else "user_id"
    return [
        {name: value, "users": len(known(own, who)), **measured(own),
         "cost_share": share(cost(own), cost(calls))}
        for value, own in groups
    ]  # fmt: skip


def email_domain(call: Row) -> str:
    local, at, domain = call["user_email"].rpartition("@")
    return domain.lower() if local and at else ""


def minute_of(call: Row) -> datetime:
    return call["occurred_at"].replace(second=0, microsecond=0)


def rates(calls: list[Row], names: tuple[str, ...]) -> Rows:
    rows = []
    for key, own in by(calls, lambda c: tuple(c[n] for n in names)).items():
        minutes = by(own, minute_of).values()
        row: dict[str, Any] = {"user_id": None, "model": None, **dict(zip(names, key, strict=True))}
        row["active_minutes"] = len(minutes)
        for what, value in (("requests", len), ("tokens", tokens)):
            each = sorted(value(minute) for minute in minutes)
            row |= {
                what: sum(each),
                f"{what}_per_minute": round(sum(each) / len(each), 3),
                f"{what}_per_minute_p95": each[math.ceil(0.95 * len(each)) - 1],
                f"{what}_per_minute_peak": each[-1],
            }
        rows.append(row)
    return sorted(rows, key=lambda r: (-r["tokens_per_minute_peak"], r["user_id"] or "", r["model"] or ""))


def peaks(calls: list[Row], zone: ZoneInfo, most: int, tokens_limit: int) -> Rows:
    minutes = [
        (at, model, own) for (at, model), own in by(calls, lambda c: (minute_of(c), c["model"])).items()
    ]
    places: dict[tuple[datetime, str], int] = {}
    for value in (len, tokens):
        ranked = sorted(minutes, key=lambda one: (-value(one[2]), one[0], one[1]))
        for place, (at, model, _) in enumerate(ranked, 1):
            places[at, model] = min(place, places.get((at, model), place))
    first = sorted(minutes, key=lambda one: (places[one[:2]], one[:2]))[:most]
    return [
        _peak(at.astimezone(zone), model, len(own), tokens(own), tokens_limit) for at, model, own in first
    ]


def _peak(at: datetime, model: str, requests: int, used: int, limit: int) -> dict[str, Any]:
    part = used / limit
    risk = "critical" if part >= 1 else "high" if part >= 0.8 else "medium" if part >= 0.5 else "low"
    return {
        "minute": at.isoformat(), "model": model, "requests": requests, "tokens": used,
        "requests_limit": None, "tokens_limit": limit, "limit_source": "configured",
        "utilization": round(part, 6), "risk": risk,
    }  # fmt: skip


def sessions(calls: list[Row]) -> Rows:
    """Sessions, the one with the latest call first, times as instants."""
    rows = []
    for session, own in by(calls, "session_id").items():
        times = sorted(call["occurred_at"] for call in own)
        lasted_s = (times[-1] - times[0]) / timedelta(seconds=1)
        rows.append({
            "session_id": session, "first_call_at": times[0], "last_call_at": times[-1],
            "users": sorted(known(own, "user_id")), "machines": sorted(known(own, "machine_id")),
            "projects": sorted(known(own, "project")), "clients": sorted(known(own, "client")),
            "models": sorted(known(own, "model")), "sources": sorted({s for c in own for s in c["sources"]}),
            **measured(own), "duration_s": round(lasted_s, 3),
            "calls_per_hour": round(len(own) * 3600 / lasted_s, 3) if lasted_s else None,
            "tokens_per_minute": round(tokens(own) * 60 / lasted_s, 3) if lasted_s else None,
        })  # fmt: skip
    rows = [row for row in rows if row["session_id"]]
    return sorted(rows, key=lambda row: (row["last_call_at"], row["session_id"]), reverse=True)


def cache(calls: list[Row]) -> Rows:
    rows = []
    for model, own in by(calls, "model").items():
        saved = paid = long = unpriced = 0
        for call in own:
            rates = rates_of(call)
            if rates is None:
                unpriced += total([call], "input_tokens") + sum(call[name] for name in INPUTS[1:])
                continue
            plain, read, short, hour, _ = rates
            saved += call["cache_read_tokens"] * (plain - read)
            paid += call["cache_write_5m_tokens"] * (short - plain)
            paid += call["cache_write_1h_tokens"] * (hour - plain)
            long += call["cache_write_1h_tokens"] * (hour - short)
        sent = {name: total(own, name) for name in INPUTS}
        rows.append({
            "by": "model", "key": model, "calls": len(own), **sent,
            "cache_hit_ratio": share(sent["cache_read_tokens"], sum(sent.values())),
            "saved_by_reads_usd": usd(saved), "paid_for_writes_usd": usd(paid),
            "net_saved_usd": usd(saved - paid), "extra_for_1h_writes_usd": usd(long),
            "unpriced_input_tokens": unpriced,
        })  # fmt: skip
    return sorted(rows, key=lambda row: (-sum(row[name] for name in INPUTS), row["key"]))


def unpriced(calls: list[Row]) -> Rows:
    groups = by((c for c in calls if c["unpriced"]), lambda c: (c["provider"], c["model"]))
    return [
        {"provider": provider, "model": model, "unpriced_calls": len(own),
         **{name: total(own, name) for name in (*TOKENS, "web_search_requests")},
         "total_tokens": tokens(own), "priceable_calls": 0, "would_cost_usd": None}
        for (provider, model), own in sorted(groups.items(), key=lambda one: (-tokens(one[1]), one[0]))
    ]  # fmt: skip


def efficiency(calls: list[Row], done: list[Row]) -> Rows:
    """By user; `done` is activity, each with a value in text."""
    rows = []
    used, work = by(calls, "user_id"), by(done, "user_id")
    for user in used.keys() | work.keys():
        own, spent = used.get(user, []), Decimal(cost(used.get(user, []))) / 10**9

        def of(metric: str, user: str = user, **more: str) -> Decimal:
            some = [w for w in work.get(user, []) if w["metric"] == metric]
            return sum((Decimal(w["value"]) for w in some if more.items() <= w.items()), Decimal(0))

        def per(amount: Decimal, spent: Decimal = spent) -> str | None:
            return plain(round(spent / amount, 9)) if amount else None

        added, removed = of("lines_of_code", kind="added"), of("lines_of_code", kind="removed")
        accepted, rejected = of("edit_decisions", decision="accept"), of("edit_decisions", decision="reject")
        rows.append({
            "by": "user_id", "key": user, "cost_usd": usd(cost(own)), "calls": len(own),
            "total_tokens": tokens(own), "commits": plain(of("commits")),
            "pull_requests": plain(of("pull_requests")), "lines_added": plain(added),
            "lines_removed": plain(removed), "edits_accepted": plain(accepted),
            "edits_rejected": plain(rejected), "active_time_s": plain(of("active_time_s")),
            "user_time_s": plain(of("active_time_s", kind="user")),
            "edit_acceptance_rate": share(accepted, accepted + rejected) if accepted + rejected else None,
            "cost_per_commit_usd": per(of("commits")),
            "cost_per_pull_request_usd": per(of("pull_requests")),
            "cost_per_1000_lines_usd": per((added + removed) / 1000),
            "cost_per_accepted_edit_usd": per(accepted),
            "cost_per_active_hour_usd": per(of("active_time_s") / 3600),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (-Decimal(row["cost_usd"]), row["key"]))


def plain(amount: Decimal) -> str:
    return f"{amount.normalize() + 0:f}"
