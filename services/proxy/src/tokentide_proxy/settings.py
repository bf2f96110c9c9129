"""What the proxy can be told."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.settings import Port, SharedSettings


class ProxySettings(SharedSettings, frozen=True, kw_only=True):
    """Settings of the API proxy."""

    proxy_port: Annotated[Port, msgspec.Meta(description="HTTP port for API clients.")] = 8080
