"""Until when the keys of an approved machine are good, where it was approved by a key that ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column("device_logins", sa.Column("keys_until", sa.DateTime(timezone=True)))
