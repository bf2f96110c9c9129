"""An example of every route of the query API, as docs/reference/examples.md shows it: asked in one story.

`PYTHONPATH=tests python tests/infra/report_examples.py` writes them beside those of the reports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from infra.accounts_people import SECRET
from infra.query_client import Caller
from tokentide_common.accounts_schema import outbox
from tokentide_query_api.accounts.safe import Safe

NO_EXAMPLE: Final = {
    "GET /live": "an endless stream: [the query API](query-api.md) shows what it says",
    "GET /auth/oidc/{provider}/start": "sends a browser on to the identity provider",
    "GET /auth/oidc/{provider}/callback": "where the identity provider sends the browser back to",
    "POST /auth/oidc/token": "tokens, as from `POST /auth/login`, for the ticket of such a login",
}
"""Routes without an answer that could be shown, and why."""

_DAY: Final = "from=2026-11-20&to=2026-11-20"
_HOUR: Final = "from=2026-11-20T09:00:00Z&to=2026-11-20T10:00:00Z"
_ITEMS_SHOWN: Final = 1
_TEXT_SHOWN: Final = 300
_NEW: Final = "correct horse battery staple"
# What is drawn by lot: an example must be the same every time.
_DRAWN: Final = (
    (re.compile(r"tt_([amp])_[\w-]+"), r"tt_\1_…"),
    (re.compile(r"\b([a-z]{3,8})_[0-9a-f]{32}"), r"\1_…"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "2026-11-22T10:30:00Z"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "…"),
    (re.compile(r"eyJ[\w.-]+"), "eyJ…"),
    (re.compile(r"-[0-9a-f]{8}@"), "@"),
)
_DRAWN_FIELDS: Final = {
    "refresh_token",
    "device_code",
    "user_code",
    "next_cursor",
    "hint",
    "fingerprint",
    "price_version",
}


class Step(NamedTuple):
    """A request of the story."""

    route: str
    """Method and path, as the document has them; names in braces are filled in from what was kept."""
    body: Mapping[str, Any] | None = None
    query: str = ""
    who: str = "owner"
    """A role of the first organisation, nobody (empty), or the name of a token that was kept."""
    keeps: str = ""
    """`name=field …`: what later requests need of the answer."""


STORY: Final = (
    Step("GET /usage/summary", query=_DAY),
    Step("GET /usage/timeseries", query=f"{_HOUR}&bucket=hour&group_by=model"),
    Step("GET /usage/breakdown", query=f"{_DAY}&by=model&metric=cost_usd"),
    Step("GET /compare", query=f"{_DAY}&by=project"),
    Step("GET /calls", query=f"{_DAY}&limit=1"),
    Step("GET /calls/{call_id}"),
    Step("GET /sessions", query=_DAY),
    Step("GET /activity", query=_DAY),
    Step("GET /activity/metrics-only", query=_DAY),
    Step("GET /coverage", query=_DAY),
    Step("GET /coverage/days", query=_DAY),
    Step("GET /rankings", query="period=day&at=2026-11-20&scope=users"),
    Step("GET /limits"),
    Step("GET /blocks", query=_DAY),
    Step("GET /reports"),
    Step("GET /export/calls", query=f"{_DAY}&format=ndjson"),
    Step("GET /export/partitions", query=_DAY),
    Step("POST /repricing", {"from": "2026-11-20", "to": "2026-11-20", "dry_run": True}),
    Step("GET /auth/oidc", who=""),
    Step(
        "POST /auth/signup",
        {"email": "ann@acme.example", "password": _NEW, "organisation": {"name": "Acme"}},
        who="",
        keeps="ann=access_token ann_org=organisation.id",
    ),
    Step("POST /auth/verify-email", {"token": "{letter}"}, who=""),
    Step(
        "POST /auth/login",
        {"email": "ann@acme.example", "password": _NEW},
        who="",
        keeps="ann=access_token refresh=refresh_token",
    ),
    Step("POST /auth/refresh", {"refresh_token": "{refresh}"}, who="", keeps="ann=access_token"),
    Step("GET /auth/me", who="ann"),
    Step("PATCH /auth/me", {"handle": "ann-of-acme", "on_leaderboard": True}, who="ann"),
    Step("POST /invitations", {"email": "ann@acme.example", "role": "member"}),
    Step("POST /auth/join", {"invitation": "{letter}"}, who="ann", keeps="joined=access_token"),
    Step("GET /leaderboard", query="period=day&at=2026-11-20", who="joined"),
    Step("POST /auth/switch", {"org_id": "{ann_org}"}, who="joined"),
    Step("POST /invitations", {"email": "mallory@acme.example", "role": "viewer"}),
    Step(
        "POST /auth/signup",
        {"email": "mallory@acme.example", "password": _NEW, "invitation": "{letter}"},
        who="",
    ),
    Step("POST /auth/password/forgot", {"email": "ann@acme.example"}, who=""),
    Step("POST /auth/password/reset", {"token": "{letter}", "password": _NEW + "!"}, who=""),
    Step("POST /invitations", {"email": "new@acme.example", "role": "member"}, keeps="invitation_id"),
    Step("GET /invitations"),
    Step("DELETE /invitations/{invitation_id}"),
    Step(
        "POST /auth/device",
        {"machine_id": "laptop-7", "machine_name": "Ann's laptop"},
        who="",
        keeps="device_code user_code",
    ),
    Step("POST /auth/device/lookup", {"user_code": "{user_code}"}),
    Step("POST /auth/device/decision", {"user_code": "{user_code}", "approve": True}),
    Step("POST /auth/device/token", {"device_code": "{device_code}"}, who=""),
    Step("GET /users"),
    Step("GET /users/{user_id}"),
    Step("PATCH /users/{user_id}", {"role": "admin"}),
    Step("POST /teams", {"name": "Web", "department": "Engineering"}, keeps="team_id"),
    Step("GET /teams"),
    Step("GET /teams/{team_id}"),
    Step("PATCH /teams/{team_id}", {"name": "Web and mobile"}),
    Step("PUT /teams/{team_id}/members/{user_id}"),
    Step("GET /teams/{team_id}/members"),
    Step("DELETE /teams/{team_id}/members/{user_id}"),
    Step("DELETE /teams/{team_id}"),
    Step("DELETE /users/{user_id}"),
    Step(
        "POST /keys",
        {"kind": "m", "name": "Ann's laptop", "machine_id": "laptop", "user_email": "ann@acme.example"},
        keeps="key_id",
    ),
    Step("GET /keys", query="kind=m"),
    Step("GET /keys/{key_id}"),
    Step("PATCH /keys/{key_id}", {"project": "shop"}),
    Step("DELETE /keys/{key_id}"),
    Step("GET /machines"),
    Step("GET /machines/{machine_id}"),
    Step("PATCH /machines/{machine_id}", {"name": "Ann's old laptop"}),
    Step("DELETE /machines/{machine_id}"),
    Step("PUT /providers/{name}", {"secret": "what-the-provider-gave-you"}),
    Step("GET /providers"),
    Step("DELETE /providers/{name}"),
    Step("GET /plans"),
    Step(
        "POST /plans",
        {"user": "bob@acme.example", "plan": "pro", "valid_from": "2026-11-01"},
        keeps="plan_id",
    ),
    Step("GET /plans/{plan_id}"),
    Step("PATCH /plans/{plan_id}", {"valid_until": "2026-11-30"}),
    Step("DELETE /plans/{plan_id}"),
    Step("POST /budgets", {"name": "All of us", "amount": "500", "period": "monthly"}, keeps="budget_id"),
    Step("GET /budgets"),
    Step("GET /budgets/{budget_id}"),
    Step("PATCH /budgets/{budget_id}", {"amount": "600"}),
    Step("GET /budgets/{budget_id}/progress"),
    Step("DELETE /budgets/{budget_id}"),
    Step("GET /audit", query="action=budget.created"),
    Step("GET /organisations"),
    Step("GET /organisations/{org_id}"),
    Step("PATCH /organisations/{org_id}", {"privacy": "pseudonymous"}),
    Step("POST /organisations", {"name": "Acme Labs", "time_zone": "Europe/Berlin"}),
    Step(
        "POST /auth/signup",
        {"email": "fay@acme.example", "password": _NEW, "organisation": {"name": "Fay's"}},
        who="",
        keeps="fay=access_token org_id=organisation.id",
    ),
    Step("POST /invitations", {"email": "fay@acme.example", "role": "member"}),
    Step("POST /invitations/accept", {"token": "{letter}"}, who="fay"),
    Step("DELETE /organisations/{org_id}", who="fay"),
    Step("POST /auth/logout"),
)


async def told(api: Caller) -> dict[str, Any]:
    """Live the story; return route: request and answer, the first of each route, or why there is none."""
    kept = {
        "call_id": "req_0",
        "user_id": api.who("viewer").user_id,
        "machine_id": "laptop-7",
        "org_id": "org_a",
        "name": "anthropic",
    }
    found: dict[str, Any] = {}
    for step in STORY:
        method, _, route = step.route.partition(" ")
        kept["letter"] = _newest_link(api)
        path = route.format_map(kept) + (f"?{step.query}" if step.query else "")
        body = json.loads(_filled(json.dumps(step.body), kept)) if step.body else None
        who = step.who and kept.get(step.who, step.who)
        answer = await api.ask(method, path, who, body=body, headers={"if-match": "*"})
        assert answer.status_code < 400, (step.route, answer.text)
        kind = answer.headers.get("content-type", "")
        said = answer.json() if kind.startswith("application/json") else answer.text
        for pair in step.keeps.split():
            name, _, field = pair.partition("=")
            kept[name] = _at(said, field or name)
        asked = path if path == route or step.query else route
        example = {"request": f"{method} /api/v1{asked}", "body": step.body, "status": answer.status_code}
        found.setdefault(step.route, {**example, "answer": _shown(said)})
    return found | {route: {"none": why} for route, why in NO_EXAMPLE.items()}


def _newest_link(api: Caller) -> str:
    with api.people.engine.connect() as connection:
        rows = connection.execute(sa.select(outbox).order_by(sa.text("rowid"))).all()
    texts = [Safe(SECRET).open("letters", row.message_id, row.sealed) or "" for row in rows]
    return next(iter(re.findall(r"#token=(\S+)", "\n".join(reversed(texts)))), "")


def _filled(text: str, kept: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: kept[m[1]], text)


def _at(said: Any, field: str) -> str:
    for name in field.split("."):
        said = said[name]
    return str(said)


def _shown(said: Any, name: str = "") -> Any:
    """Return an answer as the page shows it: long lists cut, what is drawn by lot left out."""
    if isinstance(said, dict):
        return {key: _shown(value, key) for key, value in said.items()}
    if isinstance(said, list):
        shown = [_shown(value) for value in said]
        # What was made at one moment is listed by ids that are drawn by lot.
        by_lot = any("_…" in json.dumps(value, ensure_ascii=False) for value in shown)
        return (sorted(shown, key=json.dumps) if by_lot else shown)[:_ITEMS_SHOWN]
    if isinstance(said, str):
        for pattern, instead in _DRAWN:
            said = pattern.sub(instead, said)
        return "…" if name in _DRAWN_FIELDS and said else said[:_TEXT_SHOWN]
    return said
