"""`python -m tokentide_common.new_organization NAME`: make an organisation and its first keys.

For installations of several services, where nobody runs `tokentide up`. The keys are printed once, as JSON in
the form of `credentials.json`, and can be found nowhere afterwards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.errors import TokentideError
from tokentide_common.keys import KeyKind
from tokentide_common.settings import SharedSettings, load

_KINDS: Final[Mapping[str, KeyKind]] = {"api_key": "a", "machine_key": "m", "proxy_key": "p"}


def main(argv: Sequence[str] | None = None) -> int:
    """Make the organisation in the database of `TOKENTIDE_DATABASE_URL`; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tokentide_common.new_organization",
        description="Make an organisation and its first keys; they are shown this once.",
    )
    parser.add_argument("name")
    parser.add_argument("--time-zone", default="UTC", help="IANA zone of its days and rankings")
    given = parser.parse_args(argv)
    try:
        made = _make(load(SharedSettings).database_url, given.name, given.time_zone)
    except TokentideError as exc:
        sys.stderr.write(f"{exc.detail}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(made).decode() + "\n")
    return 0


def _make(database_url: str, name: str, time_zone: str) -> dict[str, str]:
    engine = open_database(database_url)
    try:
        org_id = create_organization(engine, name, time_zone=time_zone)
        keys = {field: issue_key(engine, org_id, kind, name="first")[0] for field, kind in _KINDS.items()}
        return {"organization": org_id, **keys}
    finally:
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
