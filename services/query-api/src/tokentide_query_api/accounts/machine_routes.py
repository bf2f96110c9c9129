"""`/api/v1/machines`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import unquote

from litestar import Request, Response, delete, get, patch
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter

from tokentide_query_api.accounts import machines
from tokentide_query_api.accounts.changes import maker_of
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.machines import MachineChange, MachinePage, ShownMachine
from tokentide_query_api.accounts.openapi_answers import CHANGE, PRIVATE, problems, versioned
from tokentide_query_api.accounts.pages import DEFAULT_LIMIT, Limit, NextPage, Page
from tokentide_query_api.accounts.versions import IfMatch, wanted_version

_MACHINES: Final = "/api/v1/machines"
_MACHINE: Final = "/api/v1/machines/{machine_id:path}"
_COMMON: Final[dict[str, Any]] = {"tags": ["machines"], "response_headers": PRIVATE}
_Path: TypeAlias = Annotated[str, PathParameter(description="The machine's id, percent-encoded.")]


def machine_handlers(desk: Callable[[], Desk]) -> Sequence[HTTPRouteHandler]:
    """Return the handlers of machines."""

    @get(_MACHINES, summary="Machines, by id", responses=problems(), **_COMMON)
    async def list_machines(
        request: Request[Any, Any, Any], limit: Limit = DEFAULT_LIMIT, cursor: NextPage = None
    ) -> MachinePage:
        principal = await desk().admit(request)
        page = Page.of(principal.org_id, _MACHINES, limit, cursor)
        return await machines.listed(desk(), principal, page)

    @get(_MACHINE, summary="One machine", responses=problems(404), **_COMMON)
    async def one_machine(request: Request[Any, Any, Any], machine_id: _Path) -> Response[ShownMachine]:
        found = await machines.one(desk(), await desk().admit(request), _sent_id(request))
        return versioned(found, found.version)

    @patch(_MACHINE, summary="Change a machine", responses=problems(*CHANGE), **_COMMON)
    async def change_machine(
        request: Request[Any, Any, Any],
        machine_id: _Path,
        data: JSONBody[MachineChange],
        if_match: IfMatch = None,
    ) -> Response[ShownMachine]:
        by = await maker_of(desk(), request)
        changed = await machines.change(desk(), by, _sent_id(request), data, wanted_version(if_match))
        return versioned(changed, changed.version)

    @delete(_MACHINE, summary="Forget a machine, revoke its keys", responses=problems(404), **_COMMON)
    async def remove_machine(request: Request[Any, Any, Any], machine_id: _Path) -> None:
        await machines.remove(desk(), await maker_of(desk(), request), _sent_id(request))

    return [list_machines, one_machine, change_machine, remove_machine]


def _sent_id(request: Request[Any, Any, Any]) -> str:
    """Return the id in the path as it was sent: ids may hold an escaped slash."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    _, _, escaped = raw.partition(b"?")[0].decode("latin-1").partition(f"{_MACHINES}/")
    return unquote(escaped)
