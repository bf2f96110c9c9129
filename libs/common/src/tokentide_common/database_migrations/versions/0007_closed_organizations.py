"""When an organisation was closed, so that nothing opens it again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column."""
    op.add_column("organizations", sa.Column("closed_at", sa.DateTime(timezone=True)))
