"""`tokentide mcp`: the query API as tools of a model, over standard input and output or over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from mcp.server import MCPServer
from mcp.server.context import ServerMiddleware
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from tokentide.connection import Connection, find_connection, query_address
from tokentide.failures import Failure
from tokentide.mcp_http import (
    Place,
    application,
    connection_of_request,
    listen,
    listener_at,
    place_of,
    with_its_key,
)
from tokentide.mcp_tools import Answer, Tools
from tokentide.options import DataDir, Key, QueryUrl, TimeZone
from tokentide.periods import local_zone
from tokentide.terminal import notes


def serve(
    *,
    http: Annotated[
        str | None,
        Parameter(
            help="Listen at `[HOST:]PORT` over streamable HTTP instead, at 127.0.0.1 unless a host is named."
            " Each request is answered by the key that it brings as `Authorization: Bearer`; your own serves"
            " requests without one, of this machine only."
        ),
    ] = None,
    allow_host: Annotated[
        Sequence[str],
        Parameter(negative="", help="With `--http`, one more name under which clients may reach it."),
    ] = (),
    tz: TimeZone = None,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the Model Context Protocol on standard input and output, for Claude Code and other clients.

    Its tools only read, with your key: a model sees what you may see.
    """
    zone = tz if tz is not None else local_zone()
    if http is None:
        connection = find_connection("query", url, key, data_dir)
        server(lambda: connection, zone).run("stdio")
        return
    place = place_of(http)
    own = _own_connection(place, url, key, data_dir)
    app = application(server(partial(connection_of_request, own), zone, [with_its_key]), place, allow_host)
    with listener_at(place) as listener:
        notes().print(f"ready  http://{place.name}:{listener.getsockname()[1]}/mcp")
        listen(app, listener)


def server(
    connection: Callable[[], Connection], zone: str, middleware: Sequence[ServerMiddleware[Any]] = ()
) -> MCPServer:
    """Return the server, which asks over what `connection` returns while a question is answered."""
    made = MCPServer(
        "tokentide",
        version=version("tokentide"),
        instructions="Usage and cost of AI coding tools. Costs are US dollars; what is left out is zero,"
        " null unknown.",
        middleware=middleware,
    )
    for tool in Tools(connection, zone).all():
        made.add_tool(_explained(tool), annotations=ToolAnnotations(read_only_hint=True))
    return made


def _own_connection(place: Place, url: str | None, key: str | None, data_dir: Path | None) -> Connection:
    """Return what serves requests without a key: beyond this machine nothing does, and none is read."""
    if place.is_loopback:
        return find_connection("query", url, key, data_dir)
    return Connection(query_address(url, data_dir), "")


def _explained(tool: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return a tool whose failures reach the model in the server's words, so that it can ask better."""

    @wraps(tool)
    def explained(**given: str) -> Answer:
        try:
            return tool(**given)
        except Failure as failure:
            raise ToolError(f"{failure.message}. {failure.hint}".strip()) from None

    return explained
