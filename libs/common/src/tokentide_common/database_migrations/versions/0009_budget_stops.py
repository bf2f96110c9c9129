"""Budgets that stop calls, and which of them do at the moment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add a column and a table."""
    op.add_column("budgets", sa.Column("hard_stop", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "budget_stops",
        sa.Column("budget_id", sa.String(64), nullable=False),
        sa.Column("until_s", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["budget_id"], ["budgets.budget_id"]),
        sa.PrimaryKeyConstraint("budget_id"),
    )
