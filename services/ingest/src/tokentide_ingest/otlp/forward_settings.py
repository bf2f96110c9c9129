"""What the receiver can be told of the collector behind it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tokentide_common.settings import SharedSettings

_BASE_URL = r"^(https?://[^\s/?#@]+(/[^\s?#]*)?)?$"
_SIGNAL_URL = r"^(https?://[^\s/?#@]+(/[^\s#]*)?)?$"
_HEADERS = r"^(?!.*%0[adAD])(\s*[\w!#$%&'*+.^`|~-]+=[^,\r\n]*(,\s*[\w!#$%&'*+.^`|~-]+=[^,\r\n]*)*)?$"

SignalUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=_SIGNAL_URL,
        description="The whole URL for this signal, used as it is instead of the base.",
        extra={"expected": "http://host:port/path or https://host/path"},
    ),
]


class ForwardSettings(SharedSettings, frozen=True, kw_only=True):
    """Where copies of telemetry go, how, and what may wait on disk meanwhile."""

    otlp_forward_url: Annotated[
        str,
        msgspec.Meta(
            pattern=_BASE_URL,
            description="Base URL of an OTLP collector that gets every telemetry request too, at its own "
            "path (/v1/logs, …). Empty: none does.",
            extra={"expected": "http://host:4318 or https://host:4318"},
        ),
    ] = ""
    otlp_forward_logs_url: SignalUrl = ""
    otlp_forward_metrics_url: SignalUrl = ""
    otlp_forward_traces_url: SignalUrl = ""
    otlp_forward_grpc_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(grpcs?://[^\s/?#@]+:\d+)?$",
            description="Where gRPC requests go. Empty: to the URLs above, as OTLP/HTTP with the same "
            "message.",
            extra={"expected": "grpc://host:4317, or grpcs:// for TLS"},
        ),
    ] = ""
    otlp_forward_mode: Annotated[
        Literal["mirror", "proxy"],
        msgspec.Meta(
            description="mirror: we answer, a queue on disk forwards; proxy: the collector's answer is the "
            "client's answer."
        ),
    ] = "mirror"
    otlp_forward_headers: Annotated[
        str,
        msgspec.Meta(
            pattern=_HEADERS,
            description="Headers added to the copy, in place of the client's of the same name; values "
            "percent-encoded where they hold a comma.",
            extra={"expected": "name=value,name=value", "secret": True},
        ),
    ] = ""
    otlp_forward_drop_headers: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="Headers left out of the copy; our own key always is."),
    ] = ()
    otlp_forward_queue_dir: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="Folder of what waits to be forwarded, contents and client headers included; only "
            "the service's user may read it.",
        ),
    ] = "tokentide-forward-queue"
    otlp_forward_queue_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=64 * 2**10, description="Most that may wait on disk; beyond it the oldest is dropped."
        ),
    ] = 512 * 2**20
    otlp_forward_max_age_s: Annotated[
        float, msgspec.Meta(gt=0, description="Seconds after which what waits is dropped as too old.")
    ] = 86_400.0
    otlp_forward_timeout_s: Annotated[
        float, msgspec.Meta(gt=0, description="Seconds that one attempt at the collector may take.")
    ] = 10.0
