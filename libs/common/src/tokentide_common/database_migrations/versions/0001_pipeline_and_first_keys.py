"""Organisations, keys, providers' keys, claims, unfinished blocks and leases.

Databases from before migrations were recorded have these tables already.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables that are not there."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "organizations",
        sa.Column("org_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False, server_default="UTC"),
        sa.Column("created_at", time, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("org_id", sa.String(64), sa.ForeignKey("organizations.org_id"), nullable=False, index=True),
        sa.Column("kind", sa.String(1), sa.CheckConstraint("kind IN ('m', 'p', 'a')"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        *(
            sa.Column(name, sa.String(200), nullable=False, server_default="")
            for name in ("name", "user_id", "user_email", "machine_id", "project", "team", "department")
        ),
        sa.Column("created_at", time, nullable=False),
        sa.Column("revoked_at", time),
        if_not_exists=True,
    )
    op.create_table(
        "provider_credentials",
        sa.Column("org_id", sa.String(64), sa.ForeignKey("organizations.org_id"), primary_key=True),
        sa.Column("upstream", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("changed_at", time, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "batch_claims",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start_offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.String(128), primary_key=True),
        sa.Column("end_offset", sa.BigInteger, nullable=False),
        sa.Column("claimed_at", time, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "unfinished_blocks",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("token", sa.String(400), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        if_not_exists=True,
    )
