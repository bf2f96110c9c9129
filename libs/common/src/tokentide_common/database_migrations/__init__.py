"""Brings the tables of the SQL database up to date: Alembic's migrations, the same on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

HEAD: Final = "0009"
"""The newest migration; a test compares it with the folder."""


def bring_up_to_date(connection: Connection) -> None:
    """Apply what is missing, in the caller's transaction: all of it or nothing.

    A database that a newer version of Tokentide has migrated is left as it is: migrations only add.
    """
    known = _version(connection)
    if known is not None and known >= HEAD:
        return
    # Most starts find nothing to do, and need not load it.
    from alembic import command  # noqa: PLC0415 -- as above
    from alembic.config import Config  # noqa: PLC0415 -- as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
