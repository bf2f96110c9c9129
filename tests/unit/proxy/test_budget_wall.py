"""What a used-up budget refuses: by the words that a call is counted with, and only what spends."""

from __future__ import annotations

from typing import Any

import pytest

from tokentide_common.key_directory import KeyRecord
from tokentide_common.stop_directory import LiveStops
from tokentide_proxy.attribution import attribution_of
from tokentide_proxy.budget_wall import over_budget, parts_of
from tokentide_proxy.exchange import Admission, Headers, RequestFacts, Upstream
from tokentide_proxy.observation import usage_event
from tokentide_proxy.observed import Observed
from tokentide_proxy.outcome import Outcome
from tokentide_proxy.whom import Whom

NOW = 2_000_000_000.0
KEY = KeyRecord(
    "key_1", "org_1", "p", user_id="dev", user_email="Dev@acme.example", project="apollo", team="core"
)
PLAIN: Headers = [(b"accept", b"*/*")]
NAMED: Headers = [(b"x-tokentide-project", b"zeus"), (b"x-tokentide-user", b"Ann@acme.example")]


def asked(headers: Headers = PLAIN, key: KeyRecord = KEY) -> Admission:
    return Admission(key, "local", b"/v1/messages", headers)


async def stops(*rows: tuple[Any, ...], seconds: int = 60) -> LiveStops:
    found = [("org_1", *row, "all", "monthly", int(NOW) + seconds) for row in rows]
    directory = LiveStops(lambda _: found, wall_clock=lambda: NOW)
    await directory.refresh()
    return directory


@pytest.mark.parametrize("headers", [PLAIN, NAMED])
def test_a_call_falls_under_the_budgets_that_count_it(headers: Headers) -> None:
    event = usage_event(
        whom=(whom := Whom(KEY, attribution_of(headers))),
        upstream=Upstream("", "anthropic", "anthropic", "https", "h", 443),
        facts=RequestFacts(),
        request_id="",
        observed=Observed(),
        outcome=Outcome("ok", 200, NOW, duration_ms=1),
        own_id=lambda: "1",
    )
    assert parts_of(whom) == [
        ("organisation", ""),
        ("team", event.team),
        ("project", event.project),
        ("key", event.key_id),
        ("user", event.user_id),
        ("user", event.user_email.lower()),
    ]


@pytest.mark.parametrize(
    ("scope", "value", "headers", "refused"),
    [
        ("organisation", "", PLAIN, True),
        ("project", "apollo", PLAIN, True),
        ("project", "apollo", NAMED, False),
        ("project", "zeus", NAMED, True),
        ("user", "dev@acme.example", PLAIN, True),
        ("user", "ann@acme.example", NAMED, True),
        ("user", "dev", NAMED, False),
        ("key", "key_1", NAMED, True),
        ("key", "key_2", PLAIN, False),
    ],
)
async def test_a_header_says_what_a_call_is_for_else_its_key(
    scope: str, value: str, headers: Headers, refused: bool
) -> None:
    found = over_budget(await stops((scope, value)), asked(headers), b"POST")
    assert (found is not None) is refused


async def test_what_only_reads_and_what_others_ask_passes() -> None:
    all_stopped = await stops(("organisation", ""))
    other = KeyRecord("key_9", "org_2", "p")
    assert over_budget(all_stopped, asked(), b"GET") is None
    assert over_budget(all_stopped, asked(key=other), b"POST") is None
    assert over_budget(None, asked(), b"POST") is None


@pytest.mark.parametrize(("seconds", "retry_after_s"), [(60, 60), (9 * 86_400, 3600)])
async def test_the_refusal_says_which_budget_until_when_and_when_to_come_back(
    seconds: int, retry_after_s: int
) -> None:
    refused = over_budget(await stops(("team", "core"), seconds=seconds), asked(), b"POST")
    assert refused is not None
    assert (refused.stable_code, refused.status) == ("budget_used_up", 429)
    assert refused.retry_after_s == retry_after_s
    assert "the budget all for this month is used up; calls go on at 2033-05-" in refused.detail
