"""The `tokentide` command: its subcommands, each imported when it is used."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from cyclopts import App


def build_app() -> App:
    """Return the command line, with every subcommand registered by name only."""
    app = App(
        name="tokentide",
        help="Usage analytics for AI coding tools: every LLM call counted exactly once.",
        version=lambda: version("tokentide"),
    )
    # A wrong name imports every command to suggest one: the light client must not name the services.
    up = "tokentide.embedded.up:up" if find_spec("tokentide_ingest") else "tokentide.light:up"
    app.command(up, name="up", help="Run the whole system on this machine.")
    app.command("tokentide.push:push", name="push", help="Send what is new in Claude Code's logs.")
    app.command("tokentide.stats:stats", name="stats", help="Show usage and cost as the server counts them.")
    app.command(
        "tokentide.coverage:coverage", name="coverage", help="Show who saw the calls, and what lacks."
    )
    app.register_install_completion_command()
    return app
