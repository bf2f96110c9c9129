"""What stands in for commands whose packages are not installed."""

from __future__ import annotations

from tokentide.failures import Failure


def not_installed(*_given: str) -> None:
    """Say how to install what the command needs."""
    raise Failure(
        "this is the light client: the services that the command needs are not installed",
        hint="install them with the extra `embedded`, for example `uv tool install './cli[embedded]'`",
    )


def no_mcp(*_given: str) -> None:
    """Say how to install what MCP needs."""
    raise Failure(
        "the MCP server is not installed",
        hint="install it with the extra `mcp`, for example `uv tool install './cli[mcp]'`",
    )
