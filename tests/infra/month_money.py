"""What the month's pace, anomalies, lost caches, plans, blocks and comparison must be: as their pages say.

The definitions are those of docs/reference/money.md and query-api.md, followed call by call and day by day.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import combinations, pairwise
from statistics import fmean, median
from typing import Any, Final
from zoneinfo import ZoneInfo

from infra.month_people import INPUTS, Row, rates_of
from infra.month_reports import (
    Rows,
    by,
    cost,
    known,
    local_day,
    measured,
    midnight,
    share,
    tokens,
    total,
    usd,
)

DAY: Final = timedelta(days=1)
FIVE_HOURS: Final = timedelta(hours=5)
_WRITES: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")


def costs_by_day(calls: Sequence[Row], zone: ZoneInfo) -> Counter[date]:
    days: Counter[date] = Counter()
    for call in calls:
        days[local_day(call, zone)] += call["cost_nano"]
    return days


def pace(calls: list[Row], zone: ZoneInfo, first: date, at: datetime) -> dict[str, Any]:
    """What `pace` says of all calls, by cost; `calls` are those up to `at`."""
    spent, today = costs_by_day(calls, zone), at.astimezone(zone).date()
    used = min(day for day, nano in spent.items() if nano and day >= first)
    days = [used + n * DAY for n in range((today - used).days)]
    values = [spent[day] for day in days]
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(values), 2)]
    slope, mean, z = median(slopes), fmean(values), _mann_kendall(values)
    steady = abs(slope / mean) < 0.01 or abs(z) < 1.645
    recent = days[-28:]
    weekday = {n: [spent[day] for day in recent if day.weekday() == n] for n in range(7)}
    means = {n: fmean(own) for n, own in weekday.items() if len(own) >= 2}
    overall = fmean([spent[day] for day in recent])
    away = [spent[day] - means.get(day.weekday(), overall) for day in recent]
    spread = math.sqrt(sum(one * one for one in away) / (len(recent) - max(1, len(means))))
    ends = midnight(today + DAY, zone)
    left = (ends - at) / (ends - midnight(today, zone))
    row: dict[str, Any] = {
        "by": "", "key": "", "metric": "cost_usd", "days": len(days), "daily_average": mean,
        "trend": "steady" if steady else "rising" if slope > 0 else "falling",
        "slope_per_day": slope, "slope_share": slope / mean, "mann_kendall_z": z,
    }  # fmt: skip
    monday = today - today.weekday() * DAY
    month_end = (today.replace(day=1) + 32 * DAY).replace(day=1)
    for name, begins, after in (
        ("week", monday, monday + 7 * DAY),
        ("month", today.replace(day=1), month_end),
    ):
        so_far = sum(nano for day, nano in spent.items() if begins <= day < after)
        ahead = [today + n * DAY for n in range(1, (after - today).days)]
        expected = so_far + left * means.get(today.weekday(), overall)
        expected += sum(means.get(day.weekday(), overall) for day in ahead)
        reach = 1.2816 * spread * math.sqrt(len(ahead) + left)
        row |= {
            f"{name}_so_far": so_far, f"{name}_projected": expected,
            f"{name}_low": max(so_far, expected - reach), f"{name}_high": expected + reach,
        }  # fmt: skip
    return row


def _mann_kendall(values: Sequence[float]) -> float:
    n, score = len(values), sum((b > a) - (b < a) for a, b in combinations(values, 2))
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values())
    return (score - (score > 0) + (score < 0)) / math.sqrt((n * (n - 1) * (2 * n + 5) - ties) / 18)


def anomalies(calls: list[Row], zone: ZoneInfo, days: Sequence[date], threshold: float, least: int) -> Rows:
    """Days of models that are far from the same weekdays before; `calls` are all there ever were."""
    rows = []
    for model, own in by(calls, "model").items():
        spent = costs_by_day(own, zone)
        begins = min((day for day, nano in spent.items() if nano), default=date.max)
        for day in days:
            before = [day - 7 * n * DAY for n in range(1, 9)]
            history = [spent[one] for one in before if one >= begins]
            if len(history) < least:
                continue
            middle = median(history)
            away = [abs(one - middle) for one in history]
            spread = 1.4826 * median(away) or 1.253314 * fmean(away) or abs(middle) / 10
            if spread and abs(z := (spent[day] - middle) / spread) >= threshold:
                rows.append({
                    "by": "model", "key": model, "day": midnight(day, zone).astimezone(zone).isoformat(),
                    "metric": "cost_usd", "direction": "high" if z > 0 else "low", "value": usd(spent[day]),
                    "median": usd(round(middle)), "spread": usd(round(spread)), "z": round(z, 3),
                    "history_days": len(history), "distance": abs(z),
                })  # fmt: skip
    rows.sort(key=lambda row: (-row.pop("distance"), row["day"], row["key"]))
    return rows


def cache_losses(calls: list[Row], zone: ZoneInfo) -> Rows:
    threads = by((c for c in calls if c["session_id"] and c["status"] == "ok"),
                 lambda c: (c["session_id"], c["agent"], c["is_sidechain"]))  # fmt: skip
    lost: dict[str, list[tuple[Row, int, str, timedelta]]] = defaultdict(list)
    for (session, *_), thread in threads.items():
        thread.sort(key=lambda c: (c["occurred_at"], c["call_id"]))
        for before, after in pairwise(thread):
            held = before["cache_read_tokens"] + sum(before[name] for name in _WRITES)
            prompt, read = sum(after[name] for name in INPUTS), after["cache_read_tokens"]
            if held >= 1024 and 2 * prompt >= held and 2 * read < min(held, prompt):
                gap = after["occurred_at"] - before["occurred_at"]
                kept = timedelta(hours=1) if before["cache_write_1h_tokens"] else timedelta(minutes=5)
                cause = "expired" if gap > kept else "prompt_changed"
                cause = "model_changed" if before["model"] != after["model"] else cause
                lost[session].append((after, min(held, prompt) - read, cause, gap))
    every = by(calls, "session_id")
    rows = [_lost_row(session, every[session], own, zone) for session, own in lost.items()]
    return sorted(rows, key=lambda row: (-row["lost_tokens"], row["session_id"]))


def _lost_row(session: str, calls: list[Row], own: Sequence[Any], zone: ZoneInfo) -> dict[str, Any]:
    all_causes = ("expired", "model_changed", "prompt_changed")
    causes, nano, unknown = Counter(cause for _, _, cause, _ in own), 0, 0
    for after, gone, *_ in own:
        rates = rates_of(after)
        if rates is None:
            unknown += 1
            continue
        plain, read, short, hour, _ = rates
        again = hour if after["cache_write_1h_tokens"] else short if after["cache_write_5m_tokens"] else plain
        nano += gone * (again - read)
    worst = max(gone for _, gone, *_ in own)
    after, gone, _, gap = next(one for one in own if one[1] == worst)
    at = after["occurred_at"].astimezone(zone).isoformat(timespec="milliseconds")
    return {
        "session_id": session, "calls": len(calls),
        "cache_hit_ratio": share(total(calls, "cache_read_tokens"), sum(total(calls, n) for n in INPUTS)),
        "losses": len(own), **{f"losses_{c}": causes[c] for c in all_causes},
        "lost_tokens": sum(gone for _, gone, *_ in own), "cost_usd": usd(nano), "unpriced_losses": unknown,
        "worst_at": at, "worst_lost_tokens": gone, "worst_gap_s": round(gap / timedelta(seconds=1), 3),
    }  # fmt: skip


def plan_savings(calls: list[Row], zone: ZoneInfo, plans: Sequence[Mapping[str, Any]], first: date,
                 after: date) -> Rows:  # fmt: skip
    """`plans` have whom they are for, their price in dollars and their days; no two of them meet."""
    rows = []
    for plan in plans:
        covered = [c for c in calls if c["provider"] == plan["provider"]
                   and plan["user"] in (c["user_id"], c["user_email"].lower())]  # fmt: skip
        begins, ends = max(first, plan["from"]), min(after, plan["until"])
        for month, own_days in by_month(begins, ends).items():
            length = ((month + 32 * DAY).replace(day=1) - month).days
            price = round(Fraction(plan["usd"] * 10**9 * len(own_days), length))
            own = [c for c in covered if local_day(c, zone) in own_days]
            credits = [c for c in own if c["provider"] == "anthropic" and c["speed"] == "fast"]
            rows.append({
                "month": f"{month:%Y-%m}", "user": plan["user"], "provider": plan["provider"],
                "plan": plan["plan"], "from_day": min(own_days).isoformat(),
                "until_day": (max(own_days) + DAY).isoformat(), "days": len(own_days), "calls": len(own),
                "total_tokens": tokens(own), "unpriced_calls": sum(c["unpriced"] for c in own),
                "list_cost_usd": usd(cost(own)), "plan_cost_usd": usd(price),
                "usage_credits_usd": usd(cost(credits)),
                "saving_usd": usd(cost(own) - price - cost(credits)),
                "list_over_plan": round(cost(own) / price, 6),
            })  # fmt: skip
    return sorted(rows, key=lambda row: (row["month"], row["user"]))


def by_month(first: date, after: date) -> dict[date, set[date]]:
    months: dict[date, set[date]] = defaultdict(set)
    for n in range((after - first).days):
        months[(first + n * DAY).replace(day=1)].add(first + n * DAY)
    return months


def accounts(calls: list[Row]) -> dict[str, list[Row]]:
    """Calls by whose subscription pays: the account, else the one that their user has, else user or key."""
    told = {user: known(own, "account_id") for user, own in by(calls, "user_id").items()}

    def account(call: Row) -> str:
        of_user = told[call["user_id"]] if call["user_id"] else set()
        one = next(iter(of_user)) if len(of_user) == 1 else ""
        return call["account_id"] or one or call["user_id"] or call["key_id"]

    return by(calls, account)


def blocks(calls: list[Row], now: datetime, zone: ZoneInfo) -> Rows:
    """The blocks of one account, newest first, gaps between them."""
    made: list[tuple[datetime, list[Row]]] = []
    rows: Rows = []
    for call in sorted(calls, key=lambda c: c["occurred_at"]):
        at = call["occurred_at"]
        if not made or at - made[-1][0] > FIVE_HOURS or at - made[-1][1][-1]["occurred_at"] > FIVE_HOURS:
            made.append((at.replace(minute=0, second=0, microsecond=0), []))
        made[-1][1].append(call)
    for number, (start, own) in enumerate(made):
        first, last = own[0]["occurred_at"], own[-1]["occurred_at"]
        before = made[number - 1][1][-1]["occurred_at"] if number else first
        if first - before > FIVE_HOURS:
            rows.append({**_block(before + FIVE_HOURS, first, [], zone), "is_gap": True})
        active = now - last < FIVE_HOURS and now < start + FIVE_HOURS
        rows.append({**_block(start, start + FIVE_HOURS, own, zone), "is_active": active})
    return rows[::-1]


def _block(start: datetime, end: datetime, own: list[Row], zone: ZoneInfo) -> dict[str, Any]:
    def text(at: datetime) -> str:
        return at.astimezone(zone).isoformat(timespec="milliseconds")

    minutes = by(own, lambda c: c["occurred_at"].replace(second=0, microsecond=0))
    return {
        "start": text(start), "end": text(end),
        "first_call_at": text(own[0]["occurred_at"]) if own else None,
        "last_call_at": text(own[-1]["occurred_at"]) if own else None,
        "is_active": False, "is_gap": False, "pinned": False, **window(own),
        "overlap_minutes": sum(len({c["machine_id"] for c in at_once}) > 1 for at_once in minutes.values()),
        "models": sorted({c["model"] for c in own}),
        "machines": [{"machine_id": m, **window(some)} for m, some in sorted(by(own, "machine_id").items())],
    }  # fmt: skip


def window(own: list[Row]) -> dict[str, Any]:
    sums = measured(own)
    names = ("calls", "input_tokens", "cache_read_tokens", "output_tokens", "total_tokens", "cost_usd")
    return {**{n: sums[n] for n in names}, "cache_write_tokens": sum(sums[name] for name in _WRITES)}


def burn(own: list[Row], end: datetime, now: datetime) -> tuple[dict[str, float], dict[str, float]] | None:
    """The pace of a block, and what it leads to at its end; None where its calls are of one moment."""
    times = [c["occurred_at"] for c in own]
    minutes = (max(times) - min(times)) / timedelta(minutes=1)
    if not minutes:
        return None
    per_minute, spent = tokens(own) / minutes, cost(own) / 10**9
    fresh = (total(own, "input_tokens") + total(own, "output_tokens")) / minutes
    left = (end - now) / timedelta(minutes=1)
    return (
        {"tokens_per_minute": per_minute, "fresh_tokens_per_minute": fresh,
         "cost_usd_per_hour": spent / minutes * 60},
        {"remaining_minutes": round(left), "total_tokens": tokens(own) + per_minute * left,
         "cost_usd": spent + spent / minutes * left},
    )  # fmt: skip
