"""All account routes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from litestar.handlers import HTTPRouteHandler

from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.key_routes import key_handlers

Opened = Callable[[], Desk]
_PARTS: Final[tuple[Callable[[Opened], Sequence[HTTPRouteHandler]], ...]] = (key_handlers,)


def account_handlers(desk: Opened) -> Sequence[HTTPRouteHandler]:
    """Return the Litestar handlers of all account routes; `desk` is asked when a request comes."""
    return [handler for part in _PARTS for handler in part(desk)]
