"""What the query API can be told, all of it in the environment."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tokentide_common.settings import Port, SharedSettings


class QuerySettings(SharedSettings, frozen=True, kw_only=True):
    """Settings of the query API."""

    price_overrides: Annotated[
        str,
        msgspec.Meta(
            description="The dated price file that the aggregator has: it tells what each kind of token cost."
        ),
    ] = ""
    query_port: Annotated[Port, msgspec.Meta(description="The query API and the dashboard.")] = 8000
