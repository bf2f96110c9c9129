"""`python -m tokentide_common.provider_key set ORGANIZATION NAME`: keep a provider's key for the proxy.

For installations of several services, where nobody runs `tokentide up`. The key is read from a prompt or from
standard input, sealed with `TOKENTIDE_SECRET_KEY`, and never shown again; `list` gives names and dates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from tokentide_common.database import open_database
from tokentide_common.errors import TokentideError
from tokentide_common.provider_credentials import Vault, forget_credential, keep_credential, kept_keys
from tokentide_common.secret_input import read_secret
from tokentide_common.settings import SharedSettings, load


def main(argv: Sequence[str] | None = None) -> int:
    """Do it in the database of `TOKENTIDE_DATABASE_URL`; return the exit code."""
    given = _parser().parse_args(argv)
    try:
        _do(load(SharedSettings), given)
    except TokentideError as exc:
        sys.stderr.write(f"{exc.detail}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokentide_common.provider_key",
        description="The keys of providers with which the proxy calls them for an organisation.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for action, what in (
        ("set", "keep a key, read from a prompt or standard input"),
        ("list", "names and dates as JSON, never keys"),
        ("remove", "forget a key"),
    ):
        named = actions.add_parser(action, help=what)
        named.add_argument("organization", help="its id, org_…")
        if action != "list":
            named.add_argument(
                "name", help="anthropic, openai, gemini, or a name of TOKENTIDE_PROXY_UPSTREAMS"
            )
    return parser


def _do(settings: SharedSettings, given: argparse.Namespace) -> None:
    engine = open_database(settings.database_url)
    try:
        if given.action == "list":
            kept = kept_keys(engine, given.organization)
            sys.stdout.write(msgspec.json.encode(kept).decode() + "\n")
        elif given.action == "remove":
            forget_credential(engine, given.organization, given.name)
        else:
            vault = Vault(settings.secret_key)
            secret = read_secret(f"key for {given.name}: ")
            keep_credential(engine, vault, given.organization, given.name, secret)
    finally:
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
