"""Reports by part of an organisation: teams, departments, cost centers, identity providers, domains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tokentide_query_api.asking import Asking
from tokentide_query_api.dimensions import DIMENSIONS, SUMS, TOKEN_SUMS
from tokentide_query_api.formats import MEASURES, Kind, columns
from tokentide_query_api.measures import added, measures, ratio
from tokentide_query_api.periods import Period
from tokentide_query_api.reports.grouped import sums_by, sums_with_members
from tokentide_query_api.reports.report import Report, Row

_USER: Final = DIMENSIONS["user_id"]
_EMAIL: Final = DIMENSIONS["user_email"]
_MEASURED: Final = (*columns(Kind.COUNT, "users"), *MEASURES, *columns(Kind.RATIO, "cost_share"))


def by_dimension(report: str, dimension: str, title: str) -> Report:
    """Return the report that splits a period by one dimension, the most expensive first."""
    what = DIMENSIONS[dimension]

    async def rows(ask: Asking, period: Period) -> Sequence[Row]:
        scope = ask.scope(period.start_ms, period.end_ms)
        found = await sums_with_members(ask, scope, (what,), _USER)
        return _shared({row["d0"]: (row, row["members"]) for row in found}, dimension)

    return Report(report, title, (*columns(Kind.TEXT, dimension), *_MEASURED), rows)


async def _by_organization(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    found = await sums_with_members(ask, scope, (), _USER)
    groups = [(row, row["members"]) for row in found if row["calls"]]
    return _shared(dict(zip([ask.org_id], groups, strict=False)), "organization")


async def _by_email_domain(ask: Asking, period: Period) -> Sequence[Row]:
    scope = ask.scope(period.start_ms, period.end_ms)
    people: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in await sums_by(ask, scope, (_EMAIL,)):
        people[domain_of(row["d0"])].append(row)
    groups = {domain: (added(rows), sum(1 for row in rows if row["d0"])) for domain, rows in people.items()}
    return _shared(groups, "email_domain")


def domain_of(email: str) -> str:
    """Return the domain of an address in lower case; empty for what is no address."""
    local, at, domain = email.rpartition("@")
    return domain.strip().lower() if at and local else ""


def _shared(groups: Mapping[str, tuple[Mapping[str, int], int]], name: str) -> list[Row]:
    whole = sum(sums["cost_nano"] for sums, _ in groups.values())

    def rank(one: tuple[str, tuple[Mapping[str, int], int]]) -> tuple[int, int, str]:
        key, (sums, _) = one
        return -sums["cost_nano"], -sum(sums[token] for token in TOKEN_SUMS), key

    return [
        {
            name: key,
            "users": users,
            **measures({field: sums[field] for field in SUMS}),
            "cost_share": ratio(sums["cost_nano"], whole),
        }
        for key, (sums, users) in sorted(groups.items(), key=rank)
    ]


REPORTS: Final = (
    Report(
        "by-organization",
        "The organisation as a whole",
        (*columns(Kind.TEXT, "organization"), *_MEASURED),
        _by_organization,
    ),
    by_dimension("by-team", "team", "Usage and cost by team"),
    by_dimension("by-department", "department", "Usage and cost by department"),
    by_dimension("by-cost-center", "cost_center", "Usage and cost by cost center"),
    by_dimension(
        "by-identity-provider",
        "identity_provider",
        "Usage and cost by identity provider, as telemetry names it: never guessed from an address",
    ),
    Report(
        "by-email-domain",
        "Usage and cost by the domain of people's addresses",
        (*columns(Kind.TEXT, "email_domain"), *_MEASURED),
        _by_email_domain,
    ),
)
