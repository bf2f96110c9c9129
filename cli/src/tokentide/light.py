"""What stands in for `tokentide up` where only the light client is installed."""

from __future__ import annotations

from tokentide.failures import Failure


def up() -> None:
    """Say how to install what `up` runs."""
    raise Failure(
        "this is the light client: the services that `up` runs are not installed",
        hint="install them with the extra `embedded`, for example `uv tool install './cli[embedded]'`",
    )
