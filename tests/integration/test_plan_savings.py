"""`/api/v1/plans` and `plan-savings`, against numbers computed by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.ledger_rows import call, insert_calls
from infra.query_client import query_api

USD = 10**9


def spent(dollars: int, month: int, day: int, hour: int = 12, **fields: Any) -> dict[str, Any]:
    at = datetime(2026, month, day, hour, tzinfo=UTC)
    return call(
        **{"provider": "anthropic", **fields}, cost_nano=dollars * USD, occurred_at=at, output_tokens=7
    )


async def put(api, **body: Any) -> dict[str, Any]:
    answer = await api.ask("POST", "/plans", "admin", body=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_plan_savings_is_list_cost_less_the_price_of_the_days(store, tmp_path):
    async with query_api(store, tmp_path) as api:
        member = api.who("member")
        await put(api, user="ann", plan="max5x", valid_from="2026-10-17")
        await put(api, user=member.email, plan="pro", valid_from="2026-11-01", valid_until="2026-11-11")
        await insert_calls(store, [
            spent(40, 10, 16, user_id="ann"), spent(70, 10, 17, user_id="ann"),
            spent(90, 10, 31, 23, user_id="ann"),
            spent(30, 11, 22, 9, user_id="ann"), spent(5, 11, 3, user_id="ann", speed="fast"),
            spent(500, 11, 2, user_id="ann", provider="openai"),
            spent(3, 11, 10, user_id="x", user_email=member.email.upper()),
            spent(8, 11, 11, user_email=member.email),
            spent(900, 11, 5, user_id="nobody's plan"),
        ])  # fmt: skip
        path = "/reports/plan-savings?from=2026-10-01&to=2026-11-30"
        rows = (await api.ask("GET", path, "admin")).json()["rows"]
        berlin = (await api.ask("GET", f"{path}&tz=Europe/Berlin", "admin")).json()["rows"]
        own = (await api.ask("GET", path, "member")).json()["rows"]
        refused = await api.ask("GET", path, "viewer")
    told = ("month", "user", "days", "list_cost_usd", "plan_cost_usd", "usage_credits_usd", "saving_usd")
    assert [tuple(row[name] for name in told) for row in rows] == [
        ("2026-10", "ann", 15, "160", "48.387096774", "0", "111.612903226"),
        # up to today, the 22nd: 100 · 22/30; and 20 · 10/30; fast mode is paid for besides
        ("2026-11", "ann", 22, "35", "73.333333333", "5", "-43.333333333"),
        ("2026-11", member.email, 10, "3", "6.666666667", "0", "-3.666666667"),
    ]  # fmt: skip
    assert rows[0]["list_over_plan"] == round(160 / 48.387096774, 6)
    assert (rows[0]["calls"], rows[0]["total_tokens"], rows[0]["plan"]) == (2, 14, "max5x")
    # The call of 31 October at 23:00 UTC is one of November in Berlin.
    assert [(r["list_cost_usd"], r["days"]) for r in berlin] == [("70", 15), ("125", 22), ("3", 10)]
    assert own == [{**rows[2], "list_cost_usd": "3"}]
    assert refused.status_code == 403


async def test_plans_are_kept_by_admins_over_http(store, tmp_path):
    async with query_api(store, tmp_path) as api:
        made = await put(
            api, user="Ann@Acme.example", plan="custom", monthly_usd="12.5", valid_from="2026-11-01"
        )
        path = f"/plans/{made['plan_id']}"
        seen = await api.ask("GET", path, "admin")
        changed = await api.ask(
            "PATCH", path, "admin", body={"valid_until": "2026-12-01"}, headers={"if-match": '"v1"'}
        )
        overlapping = await api.ask(
            "POST",
            "/plans",
            "admin",
            body={"user": "ann@acme.example", "plan": "pro", "valid_from": "2026-11-30"},
        )
        wrong = [
            await api.ask(
                "POST",
                "/plans",
                "admin",
                body={"user": "x", "plan": "pro", "valid_from": "2026-11-01", **more},
            )
            for more in (
                {"plan": "max"},
                {"monthly_usd": "-1"},
                {"monthly_usd": "1e3"},
                {"valid_until": "2026-11-01"},
                {"valid_from": "tomorrow"},
                {"user": "\x00"},
                {"surprise": 1},
            )
        ]
        listed = (await api.ask("GET", "/plans", "admin")).json()
        gone = [
            (await api.ask("DELETE", path, "admin")).status_code,
            (await api.ask("GET", path, "admin")).status_code,
        ]
    assert (made["user"], made["monthly_usd"], made["valid_until"]) == ("ann@acme.example", "12.5", None)
    assert (seen.json(), seen.headers["etag"]) == (made, '"v1"')
    assert (changed.status_code, changed.json()["valid_until"]) == (200, "2026-12-01")
    assert (overlapping.status_code, overlapping.json()["code"]) == (409, "plan_overlaps")
    assert {answer.status_code for answer in wrong} == {400}
    assert [plan["plan_id"] for plan in listed["items"]] == [made["plan_id"]]
    assert gone == [204, 404]
