"""What stands in for the commands of the whole system where only the light client is installed."""

from __future__ import annotations

from tokentide.failures import Failure


def not_installed(*_given: str) -> None:
    """Say how to install what the command needs."""
    raise Failure(
        "this is the light client: the services that the command needs are not installed",
        hint="install them with the extra `embedded`, for example `uv tool install './cli[embedded]'`",
    )
