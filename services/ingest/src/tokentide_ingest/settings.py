"""What the ingest service can be told."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.settings import Port, SharedSettings


class IngestSettings(SharedSettings, frozen=True, kw_only=True):
    """Settings of the ingest service."""

    ingest_port: Annotated[Port, msgspec.Meta(description="HTTP port for batches.")] = 4318
    ingest_requests_per_s: Annotated[
        float, msgspec.Meta(gt=0, description="Requests a second that one key may send, on average.")
    ] = 200.0
    ingest_burst_requests: Annotated[
        int, msgspec.Meta(ge=1, description="Requests that one key may send at once after a pause.")
    ] = 400
    ingest_bytes_in_flight: Annotated[
        int,
        msgspec.Meta(
            ge=16 * 2**20,
            description="Decompressed bytes of all requests in work; above it new ones get 503. With the "
            "broker away, the process takes up to six times as much.",
        ),
    ] = 32 * 2**20
    ingest_read_timeout_s: Annotated[
        float, msgspec.Meta(gt=0, description="Seconds in which a request's body must have arrived.")
    ] = 30.0
    ingest_store_timeout_s: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            description="Seconds until a batch that must be stored before it is acknowledged gets 503.",
        ),
    ] = 30.0
