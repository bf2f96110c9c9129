"""Every `TOKENTIDE_…` variable that some part of Tokentide knows.

One file of variables may serve all services, so a service must tell the variable of a neighbour from a typing
error without importing its neighbours. `tests/unit/common/test_setting_names.py` keeps the list complete.
"""

from __future__ import annotations

from typing import Final

# Variables of the command line and of the test suite, which are no fields of any settings struct.
OUTSIDE_SERVICES: Final = frozenset(
    {
        "TOKENTIDE_DATA_DIR",
        "TOKENTIDE_INGEST_URL",
        "TOKENTIDE_KEY",
        "TOKENTIDE_MACHINE_ID",
        "TOKENTIDE_MAVEN_URL",
        "TOKENTIDE_QUERY_URL",
        "TOKENTIDE_STATE_DIR",
        "TOKENTIDE_TEST_BROKER",
    }
)

OF_SERVICES: Final = frozenset(
    {
        "TOKENTIDE_BATCH_LINGER_MS",
        "TOKENTIDE_BATCH_MAX_RECORDS",
        "TOKENTIDE_BIND_HOST",
        "TOKENTIDE_BROKER_URL",
        "TOKENTIDE_CLICKHOUSE_URL",
        "TOKENTIDE_CONSUMER_GROUP",
        "TOKENTIDE_DATABASE_URL",
        "TOKENTIDE_DEAD_LETTER_MAX_RATIO",
        "TOKENTIDE_DEAD_LETTER_WINDOW",
        "TOKENTIDE_EMBEDDED",
        "TOKENTIDE_FAILPOINT",
        "TOKENTIDE_HEALTH_PORT",
        "TOKENTIDE_INGEST_BURST_REQUESTS",
        "TOKENTIDE_INGEST_BYTES_IN_FLIGHT",
        "TOKENTIDE_INGEST_PORT",
        "TOKENTIDE_INGEST_READ_TIMEOUT_S",
        "TOKENTIDE_INGEST_REQUESTS_PER_S",
        "TOKENTIDE_INGEST_STORE_TIMEOUT_S",
        "TOKENTIDE_LOG_FORMAT",
        "TOKENTIDE_LOG_LEVEL",
        "TOKENTIDE_OTLP_FORWARD_DROP_HEADERS",
        "TOKENTIDE_OTLP_FORWARD_GRPC_URL",
        "TOKENTIDE_OTLP_FORWARD_HEADERS",
        "TOKENTIDE_OTLP_FORWARD_LOGS_URL",
        "TOKENTIDE_OTLP_FORWARD_MAX_AGE_S",
        "TOKENTIDE_OTLP_FORWARD_METRICS_URL",
        "TOKENTIDE_OTLP_FORWARD_MODE",
        "TOKENTIDE_OTLP_FORWARD_QUEUE_BYTES",
        "TOKENTIDE_OTLP_FORWARD_QUEUE_DIR",
        "TOKENTIDE_OTLP_FORWARD_TIMEOUT_S",
        "TOKENTIDE_OTLP_FORWARD_TRACES_URL",
        "TOKENTIDE_OTLP_FORWARD_URL",
        "TOKENTIDE_OTLP_GRPC_PORT",
        "TOKENTIDE_OTLP_LOOPBACK_KEY",
        "TOKENTIDE_OTLP_MAX_BODY_BYTES",
        "TOKENTIDE_OTLP_TAG_ATTRIBUTES",
        "TOKENTIDE_PRICE_OVERRIDES",
        "TOKENTIDE_PROXY_PORT",
        "TOKENTIDE_QUERY_PORT",
        "TOKENTIDE_RANK_LEASE_SECONDS",
        "TOKENTIDE_RANK_LINGER_MS",
        "TOKENTIDE_RANK_PUBLISHED_ENTRIES",
        "TOKENTIDE_RECENT_ROWS_BYTES",
        "TOKENTIDE_SECRET_KEY",
        "TOKENTIDE_SESSION_TIMEOUT_MS",
        "TOKENTIDE_STORE_TIMEOUT_S",
    }
)

KNOWN: Final = OUTSIDE_SERVICES | OF_SERVICES
