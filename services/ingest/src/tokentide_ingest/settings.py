"""What the ingest service can be told."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.settings import Port
from tokentide_common.tag_bound import DEFAULT_TAG_VALUES, TagValues
from tokentide_ingest.otlp.forward_settings import ForwardSettings

TagAttribute = Annotated[str, msgspec.Meta(pattern=r"^([^\s=,]{1,64}|[^\s=,]{1,256}=[^\s=,]{1,64})$")]


class IngestSettings(ForwardSettings, frozen=True, kw_only=True):
    """Settings of the ingest service."""

    ingest_port: Annotated[Port, msgspec.Meta(description="HTTP port for batches and OTLP.")] = 4318
    otlp_grpc_port: Annotated[Port, msgspec.Meta(description="Port for OTLP over gRPC.")] = 4317
    otlp_max_body_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=64 * 2**10,
            le=16 * 2**20,
            description="Bytes of one OTLP request, as sent and decompressed; more gets 413, or over gRPC "
            "RESOURCE_EXHAUSTED.",
        ),
    ] = 10 * 2**20
    otlp_loopback_key: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(|none|tt_[ma]_\w+)$",
            description="For whom OTLP clients of the same machine speak that send no key: whoever has this "
            "one. `none`: they are refused. `tokentide up` sets its own machine key.",
            extra={"secret": True, "expected": "a machine or API key, or none"},
        ),
    ] = ""
    otlp_tag_attributes: Annotated[
        tuple[TagAttribute, ...],
        msgspec.Meta(
            max_length=16,
            description="Attributes of telemetry that are kept as tags, beside those with a field of their "
            "own: `cost.pool` or, under another name, `cost.pool=pool`.",
            extra={"expected": "attribute or attribute=tag, up to 16, with commas"},
        ),
    ] = ()
    tag_values: TagValues = DEFAULT_TAG_VALUES
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
