"""The `tokentide` command: its subcommands, each imported when it is used."""

from __future__ import annotations

from importlib.metadata import version

from cyclopts import App


def build_app() -> App:
    """Return the command line, with every subcommand registered by name only."""
    app = App(
        name="tokentide",
        help="Usage analytics for AI coding tools: every LLM call counted exactly once.",
        version=lambda: version("tokentide"),
    )
    app.command("tokentide.embedded.up:up", name="up", help="Run the whole system on this machine.")
    app.command("tokentide.push:push", name="push", help="Send what is new in Claude Code's logs.")
    app.command("tokentide.stats:stats", name="stats", help="Show usage and cost as the server counts them.")
    app.register_install_completion_command()
    return app
