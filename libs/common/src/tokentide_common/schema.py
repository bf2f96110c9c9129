"""The tables of the SQL database that the pipeline itself needs: claims, unfinished blocks and leases.

Those of organisations, people and keys are in `accounts_schema`. A table is changed by a new migration in
`database_migrations`; a test compares both.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware UTC time on both databases; SQLite itself would forget the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse a time without a zone, and store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone is not a time")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

batch_claims = sa.Table(
    "batch_claims",
    metadata,
    sa.Column("topic", sa.String(249), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start_offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.String(128), primary_key=True),
    sa.Column("end_offset", sa.BigInteger, nullable=False),
    sa.Column("claimed_at", UtcTime, nullable=False),
)

# Embedded only: a block between its insert and its index, which a broker in memory cannot give back.
unfinished_blocks = sa.Table(
    "unfinished_blocks",
    metadata,
    sa.Column("topic", sa.String(249), primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.String(400), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
)
