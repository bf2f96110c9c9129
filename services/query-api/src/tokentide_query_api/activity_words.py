"""The closed sets of questions about activity: metrics, dimensions, parameters, and tables. Pure."""

from __future__ import annotations

from typing import Final, get_args

from tokentide_common.activity import ActivityMetric
from tokentide_query_api.buckets import BUCKETS
from tokentide_query_api.dimensions import DAY_MS, QUARTER_MS, Dimension, Table
from tokentide_query_api.parameters import Parameter, filters_on

ACTIVITY_METRICS: Final[tuple[str, ...]] = get_args(ActivityMetric)
CLIENT_METRICS: Final = ("client_tokens", "client_cost_usd")
"""What a client's own metrics say of tokens and cost."""

_OF_QUARTERS: Final = (
    *("user_id", "project", "team", "department", "machine_id", "client", "kind", "model", "tool"),
    *("decision", "decided_by", "language"),
)
_OF_SESSIONS: Final = (
    *("session_id", "user_id", "machine_id", "project", "client", "kind", "model", "query_source"),
)
_OF_LEDGER: Final = (
    *(
        "user_email",
        "account_id",
        "device_id",
        "key_id",
        "session_id",
        "cost_center",
        "query_source",
        "source",
    ),
)
ACTIVITY_DIMENSIONS: Final = {name: Dimension(name, name) for name in (*_OF_QUARTERS, *_OF_LEDGER)}

ACTIVITY_LEDGER: Final = Table("activity", QUARTER_MS, frozenset({*ACTIVITY_DIMENSIONS, "tags"}), False)
# Few rows to many; the ledger covers everything.
ACTIVITY_TABLES: Final = (
    Table("activity_session", DAY_MS, frozenset(_OF_SESSIONS), False),
    Table("activity_15m", QUARTER_MS, frozenset(_OF_QUARTERS), False),
    ACTIVITY_LEDGER,
)

METRIC: Final = Parameter(
    "metric", "What was counted; repeated: any of them; all when left out.", ACTIVITY_METRICS, repeated=True
)
BUCKET: Final = Parameter("bucket", "Width of a bucket; one sum of the period when left out.", BUCKETS)
BY: Final = Parameter("by", "Up to two dimensions of activity, or tags.", repeated=True)
FILTERS: Final = filters_on(ACTIVITY_DIMENSIONS, "activity")
