"""`tokentide mcp`: the query API as tools of a model, over standard input and output."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import version

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from tokentide.connection import Connection, find_connection
from tokentide.failures import Failure
from tokentide.mcp_tools import Answer, Tools
from tokentide.options import DataDir, Key, QueryUrl, TimeZone
from tokentide.periods import local_zone


def serve(*, tz: TimeZone = None, url: QueryUrl = None, key: Key = None, data_dir: DataDir = None) -> None:
    """Serve the Model Context Protocol on standard input and output, for Claude Code and other clients.

    Its tools only read, with your key: a model sees what you may see.
    """
    connection = find_connection("query", url, key, data_dir)
    server(connection, tz if tz is not None else local_zone()).run("stdio")


def server(connection: Connection, zone: str) -> MCPServer:
    """Return the server, which asks with the key of a connection."""
    made = MCPServer(
        "tokentide",
        version=version("tokentide"),
        instructions="Usage and cost of AI coding tools. Costs are US dollars; what is left out is zero,"
        " null unknown.",
    )
    for tool in Tools(connection, zone).all():
        made.add_tool(_explained(tool), annotations=ToolAnnotations(read_only_hint=True))
    return made


def _explained(tool: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return a tool whose failures reach the model in the server's words, so that it can ask better."""

    @wraps(tool)
    def explained(**given: str) -> Answer:
        try:
            return tool(**given)
        except Failure as failure:
            raise ToolError(f"{failure.message}. {failure.hint}".strip()) from None

    return explained
