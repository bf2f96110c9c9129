"""What the proxy can be told."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.settings import Port, SharedSettings
from tokentide_common.tag_bound import DEFAULT_TAG_VALUES, TagValues
from tokentide_proxy.upstream_table import upstreams

UpstreamEntry = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z][a-z0-9-]*=(anthropic|openai|gemini)(\+private|\+usage)*\+https?://[^\s,?#@]+$"
    ),
]


class ProxySettings(SharedSettings, frozen=True, kw_only=True):
    """Settings of the API proxy."""

    proxy_port: Annotated[Port, msgspec.Meta(description="HTTP port for API clients.")] = 8080
    proxy_upstreams: Annotated[
        tuple[UpstreamEntry, ...],
        msgspec.Meta(
            max_length=64,
            description="Further upstreams, each at `/<name>`, or another address for `anthropic`, `openai` "
            "or `gemini`: `mistral=openai+https://api.mistral.ai/v1`. One in a private network says so: "
            "`local=openai+private+http://llm:8000/v1`. One of OpenAI's dialect that knows "
            "`stream_options.include_usage` says so: `local=openai+private+usage+http://llm:8000/v1`.",
            extra={"expected": "name=dialect+https://host/base, with commas"},
        ),
    ] = ()
    proxy_loopback_key: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(|none|tt_p_\w+)$",
            description="For whom clients of the same machine speak that send no key of ours: whoever has "
            "this one; what they send to the provider goes on as it is. `none`: they are refused. "
            "`tokentide up` sets its own proxy key.",
            extra={"secret": True, "expected": "a proxy key, or none"},
        ),
    ] = ""
    proxy_openai_stream_usage: Annotated[
        bool,
        msgspec.Meta(
            description="Ask OpenAI, and upstreams marked `usage`, for the usage of streamed chats whose "
            "client does not ask, and hide it from the client again. Without it such calls are counted with "
            "no tokens."
        ),
    ] = True
    proxy_max_body_bytes: Annotated[
        int, msgspec.Meta(ge=2**20, description="Most bytes of one request's body; more gets 413.")
    ] = 256 * 2**20
    proxy_client_head_timeout_s: Annotated[
        float,
        msgspec.Meta(gt=0, description="Seconds in which a client's request headers must have arrived."),
    ] = 30.0
    proxy_client_idle_timeout_s: Annotated[
        float,
        msgspec.Meta(gt=0, description="Seconds that a client may send, or take, nothing within a request."),
    ] = 300.0
    proxy_connect_timeout_s: Annotated[
        float,
        msgspec.Meta(gt=0, description="Seconds until a provider has accepted a connection, TLS included."),
    ] = 10.0
    proxy_first_byte_timeout_s: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            description="Seconds from the end of a request to the head of its answer: models think "
            "for minutes.",
        ),
    ] = 600.0
    proxy_idle_timeout_s: Annotated[
        float, msgspec.Meta(gt=0, description="Seconds that a provider may be silent within an answer.")
    ] = 300.0
    proxy_drain_s: Annotated[
        int,
        msgspec.Meta(ge=1, description="Seconds that live streams have to end when the proxy is stopped."),
    ] = 300
    proxy_spool_dir: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="Folder of usage events that wait for the broker; only the service's user may read "
            "it. Several processes may share it.",
        ),
    ] = "tokentide-proxy-spool"
    proxy_spool_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=2**20,
            description="Most that events may take on disk, about 700 bytes each; beyond it new ones are "
            "dropped and counted.",
        ),
    ] = 256 * 2**20
    tag_values: TagValues = DEFAULT_TAG_VALUES
    proxy_buffer_events: Annotated[
        int,
        msgspec.Meta(
            ge=100,
            description="Events in memory on their way to the broker or the disk; beyond it new ones are "
            "dropped and counted.",
        ),
    ] = 20_000

    def __post_init__(self) -> None:
        """Stop the start, and `--check`, with upstreams that cannot be, and say what is wrong with them."""
        upstreams(self.proxy_upstreams)
