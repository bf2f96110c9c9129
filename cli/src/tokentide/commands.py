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
    app.command(_embedded("up:up"), name="up", help="Run the whole system on this machine.")
    app.command("tokentide.login:login", name="login", help="Make this machine known to a server.")
    app.command("tokentide.logout:logout", name="logout", help="Revoke this machine's keys, and forget them.")
    app.command("tokentide.status:status", name="status", help="Show who you are, where, and what waits.")
    app.command("tokentide.push:push", name="push", help="Send what is new in Claude Code's logs.")
    app.command("tokentide.stats:stats", name="stats", help="Show usage and cost as the server counts them.")
    app.command(
        "tokentide.coverage:coverage", name="coverage", help="Show who saw the calls, and what lacks."
    )
    app.command("tokentide.report:report", name="report", help="Show one of the server's named reports.")
    app.command("tokentide.blocks:blocks", name="blocks", help="Show accounts' 5-hour blocks and their pace.")
    app.command("tokentide.money:budgets", name="budgets", help="Show budgets and how much is used of them.")
    app.command("tokentide.money:plans", name="plans", help="Show plans of people and what they cost.")
    app.command("tokentide.money:compare", name="compare", help="Set two periods side by side.")
    app.command("tokentide.export:export", name="export", help="Write calls as a folder of Parquet files.")
    app.command("tokentide.statusline:statusline", name="statusline", help="Print Claude Code's status line.")
    app.command("tokentide.limits:limits", name="limits", help="Show how full providers' limits are.")
    app.command("tokentide.doctor:doctor", name="doctor", help="Check what is set up, and say what to do.")
    mcp = "tokentide.mcp_server:serve" if find_spec("mcp") else "tokentide.light:no_mcp"
    app.command(mcp, name="mcp", help="Answer questions of models about usage, over MCP.")
    app.command(_admin())
    app.command(_keys())
    app.command(_machines())
    app.command(_provider_keys())
    app.register_install_completion_command()
    return app


def _admin() -> App:
    admin = App(name="admin", help="What administrators do to the organisation's data.")
    admin.command("tokentide.reprice:reprice", name="reprice", help="Price history by the prices of today.")
    return admin


def _keys() -> App:
    keys = App(name="keys", help="Keys on the server.")
    keys.command("tokentide.keys:list_keys", name="list", help="Show keys, never the keys themselves.")
    keys.command("tokentide.keys:create_key", name="create", help="Make a key and show it, this once.")
    keys.command("tokentide.keys:revoke_key", name="revoke", help="Revoke a key for good.")
    return keys


def _machines() -> App:
    machines = App(name="machines", help="Machines on the server.")
    machines.command("tokentide.machines:list_machines", name="list", help="Show machines.")
    machines.command("tokentide.machines:approve_machine", name="approve", help="Let in one that logs in.")
    machines.command("tokentide.machines:rename_machine", name="rename", help="Give a machine another name.")
    machines.command(
        "tokentide.machines:remove_machine", name="remove", help="Forget a machine and revoke its keys."
    )
    return machines


def _provider_keys() -> App:
    keys = App(name="provider-key", help="Keys of providers with which the proxy calls them for you.")
    for name, place, does in (
        ("set", "set_key", "Keep a provider's key, read from a prompt or standard input."),
        ("list", "list_keys", "Show for which providers a key is kept, never the key."),
        ("remove", "remove_key", "Forget a provider's key."),
    ):
        keys.command(_embedded(f"provider_keys:{place}"), name=name, help=does)
    return keys


def _embedded(place: str) -> str:
    """Return where a command of the whole system is, or what stands in for it in the light client."""
    return f"tokentide.embedded.{place}" if find_spec("tokentide_ingest") else "tokentide.light:not_installed"
