"""The closed sets of the query language: dimensions, measures, and the tables that can answer for them.

Names from here are the only identifiers that ever reach SQL text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from tokentide_common.errors import InvalidRequest

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
QUARTER_MS: Final = 900_000
MINUTE_MS: Final = 60_000

_TAG = re.compile(r"tag\.(?P<key>[^\x00-\x1f]{1,64})")


class Kind(Enum):
    """How a dimension's value is written in JSON."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


class Dimension(msgspec.Struct, frozen=True):
    """A property of a call to filter and group by. `tag` is the key of a user-defined tag.

    `digest`: the column holds digests of the values that a filter names.
    """

    name: str
    column: str
    kind: Kind = Kind.TEXT
    tag: str = ""
    digest: bool = False

    def value(self, text: str) -> str | int | bool:
        """Return the JSON value of what the store said."""
        if self.kind is Kind.NUMBER:
            return int(text)
        return text == "true" if self.kind is Kind.FLAG else text


class Table(msgspec.Struct, frozen=True):
    """A table of calls, summed per `grain_ms` and dimension. The ledger's grain is one millisecond."""

    name: str
    grain_ms: int
    columns: frozenset[str]
    has_latency: bool

    def covers(self, dimensions: frozenset[Dimension], latency: bool) -> bool:
        """Say whether the table can tell calls apart by these dimensions (and has latency, if asked)."""
        return all(d.column in self.columns for d in dimensions) and (self.has_latency or not latency)


_TEXT = [
    "user_id",
    "user_email",
    "machine_id",
    "key_id",
    "session_id",
    "project",
    "git_branch",
    "team",
    "department",
    "cost_center",
    "identity_provider",
    "agent",
    "prompt_id",
    "client",
    "provider",
    "model",
    "status",
    "error_type",
    "stop_reason",
    "service_tier",
    "speed",
    "effort",
    "inference_geo",
    "query_source",
    "price_version",
]
DIMENSIONS: Final[dict[str, Dimension]] = {
    **{name: Dimension(name, name) for name in _TEXT},
    "source": Dimension("source", "token_source"),
    "http_status": Dimension("http_status", "http_status", Kind.NUMBER),
    "is_sidechain": Dimension("is_sidechain", "is_sidechain", Kind.FLAG),
    "unpriced": Dimension("unpriced", "unpriced", Kind.FLAG),
}
# A digest of `session_id`: tells sessions apart, in a fraction of the time, where nobody needs their ids.
SESSION_KEY: Final = Dimension("session_key", "session_key", digest=True)

# The provider's account: told apart by the blocks alone.
ACCOUNT: Final = Dimension("account_id", "account_id")

LEDGER: Final = Table(
    "ledger",
    1,
    frozenset(d.column for d in DIMENSIONS.values()) | {"account_id", "session_key", "tags"},
    True,
)
QUARTERS: Final = Table(
    "usage_15m",
    QUARTER_MS,
    frozenset(
        [
            "user_id",
            "machine_id",
            "project",
            "client",
            "provider",
            "model",
            "key_id",
            "team",
            "department",
            "token_source",
            "agent",
        ]
    ),
    True,
)
# Only for questions about minutes. A row has those of a day as lists: for whole days, and for parts of days.
MINUTE_DAYS: Final = Table("usage_day_minutes", DAY_MS, frozenset(["user_id", "model"]), False)
MINUTES: Final = Table("usage_day_minutes", MINUTE_MS, frozenset(["user_id", "model"]), False)
MODEL_MINUTES: Final = Table("usage_minute_model", MINUTE_MS, frozenset(["model"]), False)
DAYS: Final = Table(
    "usage_day",
    DAY_MS,
    frozenset(["user_id", "project", "machine_id", "team", "department", "client", "provider", "model"]),
    True,
)
_OF_PEOPLE: Final = frozenset(
    [
        "user_id",
        "account_id",
        "key_id",
        "user_email",
        "cost_center",
        "identity_provider",
        "team",
        "department",
    ]
)
USER_DAYS: Final = Table("usage_day_person", DAY_MS, _OF_PEOPLE, False)
USER_HOURS: Final = Table("usage_hour_person", HOUR_MS, _OF_PEOPLE | {"model"}, False)
MACHINE_DAYS: Final = Table("usage_day_machine", DAY_MS, frozenset(["machine_id"]), False)
PROJECT_DAYS: Final = Table(
    "usage_day_project", DAY_MS, frozenset(["project", "client", "provider", "model"]), False
)
TEAM_DAYS: Final = Table(
    "usage_day_price",
    DAY_MS,
    frozenset(
        ["team", "department", "client", "provider", "model", "service_tier", "speed", "inference_geo"]
    ),
    False,
)
USER_MODEL_DAYS: Final = Table("usage_day_model", DAY_MS, frozenset(["user_id", "model"]), False)
MODEL_QUARTERS: Final = Table("usage_15m_model", QUARTER_MS, frozenset(["client", "provider", "model"]), True)
SESSION_HOURS: Final = Table(
    "usage_session_hour", HOUR_MS, frozenset(["session_id", "session_key", "user_id"]), False
)
# Not among all tables: they know digests of users, machines and projects, for whoever counts these. A row of
# days has those of a month as lists.
DIGEST_DAYS: Final = Table("usage_month_digest", DAY_MS, frozenset(["digest"]), False)
DIGEST_HOURS: Final = Table("usage_hour_digest", HOUR_MS, frozenset(["digest"]), False)
PROMPT_SIZES: Final = (32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288)
"""The prompt sizes that `prompt_over` of `usage_day_price` tells apart: the greatest that was passed."""
SESSIONS: Final = Table(
    "usage_session",
    DAY_MS,
    frozenset(["session_id", "session_key", "user_id", "machine_id", "project", "client", "model"]),
    False,
)
# Few rows to many: what the first table that can tell covers is not read from the others.
# The ledger is last and covers everything, so that every question has an exact answer.
TABLES: Final = (
    TEAM_DAYS,
    PROJECT_DAYS,
    USER_DAYS,
    MACHINE_DAYS,
    MODEL_QUARTERS,
    USER_MODEL_DAYS,
    DAYS,
    SESSION_HOURS,
    SESSIONS,
    USER_HOURS,
    QUARTERS,
    LEDGER,
)

# Columns that a rollup sums, in the order in which a response names them.
SUMS: Final = (
    "calls",
    "errors",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "web_search_requests",
    "cost_nano",
    "reported_cost_nano",
    "unpriced_calls",
)
TOKEN_SUMS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
)
# What a breakdown can be ordered by: the short names of the three headline measures, and every measure.
METRICS: Final[dict[str, str]] = {
    "cost": "cost_nano",
    "tokens": "total_tokens",
    "calls": "calls",
    "cost_usd": "cost_nano",
    "reported_cost_usd": "reported_cost_nano",
    "total_tokens": "total_tokens",
    **{name: name for name in SUMS if not name.endswith("_nano")},
}


def dimension(name: str, among: Mapping[str, Dimension] = DIMENSIONS) -> Dimension:
    """Return the dimension of that name, `tag.<key>` for a tag. Raises `InvalidRequest`."""
    found = among.get(name)
    if found is not None:
        return found
    tag = _TAG.fullmatch(name)
    if tag is not None:
        return Dimension(name, "tags", tag=tag["key"])
    known = ", ".join(sorted(among))
    raise InvalidRequest(
        "there is no such dimension",
        code="unknown_dimension",
        fields={"dimension": f"one of {known}, tag.<key>"},
    )
