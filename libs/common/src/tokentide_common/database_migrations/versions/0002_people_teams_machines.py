"""People, their memberships, teams, machines, and what a key may do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add tables and columns; the keys that there are may do what they could."""
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("display_name", sa.String(200), server_default="", nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=True),
        sa.Column("email_verified_at", TIME, nullable=True),
        sa.Column("handle", sa.String(40), nullable=True),
        sa.Column("on_leaderboard", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
        sa.UniqueConstraint("email"),
        sa.UniqueConstraint("handle"),
    )
    op.create_table(
        "memberships",
        sa.Column("org_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column(
            "role",
            sa.String(20),
            sa.CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')"),
            nullable=False,
        ),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organizations.org_id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.user_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "user_id"),
    )
    op.create_index(op.f("ix_memberships_user_id"), "memberships", ["user_id"])
    op.create_table(
        "teams",
        sa.Column("team_id", sa.String(64), nullable=False),
        sa.Column("org_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("department", sa.String(200), server_default="", nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organizations.org_id"],
        ),
        sa.PrimaryKeyConstraint("team_id"),
        sa.UniqueConstraint("org_id", "name"),
    )
    op.create_table(
        "team_members",
        sa.Column("team_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["team_id"],
            ["teams.team_id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.user_id"],
        ),
        sa.PrimaryKeyConstraint("team_id", "user_id"),
    )
    op.create_index(op.f("ix_team_members_user_id"), "team_members", ["user_id"])
    op.create_table(
        "machines",
        sa.Column("org_id", sa.String(64), nullable=False),
        sa.Column("machine_id", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), server_default="", nullable=False),
        sa.Column("user_id", sa.String(64), nullable=True),
        sa.Column("cli_version", sa.String(64), server_default="", nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organizations.org_id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.user_id"],
        ),
        sa.PrimaryKeyConstraint("org_id", "machine_id"),
    )
    op.create_table(
        "revisions",
        sa.Column("name", sa.String(20), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "invitations",
        sa.Column("invitation_id", sa.String(64), nullable=False),
        sa.Column("org_id", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column(
            "role",
            sa.String(20),
            sa.CheckConstraint("role IN ('owner', 'admin', 'member', 'viewer')"),
            nullable=False,
        ),
        sa.Column("team_id", sa.String(64), nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("invited_by", sa.String(64), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("accepted_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["invited_by"],
            ["users.user_id"],
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organizations.org_id"],
        ),
        sa.ForeignKeyConstraint(
            ["team_id"],
            ["teams.team_id"],
        ),
        sa.PrimaryKeyConstraint("invitation_id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index(op.f("ix_invitations_org_id"), "invitations", ["org_id"])
    # Written out, since SQLite takes a reference and a rule only together with their column.
    time = "TIMESTAMP WITH TIME ZONE" if op.get_bind().dialect.name == "postgresql" else "DATETIME"
    for table, column in (
        ("organizations", "currency VARCHAR(3) NOT NULL DEFAULT 'USD'"),
        ("organizations", "plan VARCHAR(40) NOT NULL DEFAULT ''"),
        (
            "organizations",
            "privacy VARCHAR(20) NOT NULL DEFAULT 'open'"
            " CHECK (privacy IN ('open', 'pseudonymous', 'private'))",
        ),
        ("organizations", "version INTEGER NOT NULL DEFAULT 1"),
        (
            "api_keys",
            "role VARCHAR(20) NOT NULL DEFAULT 'admin'"
            " CHECK (role IN ('owner', 'admin', 'member', 'viewer'))",
        ),
        ("api_keys", "scopes VARCHAR(200) NOT NULL DEFAULT ''"),
        ("api_keys", "owner_id VARCHAR(64) REFERENCES users (user_id)"),
        ("api_keys", f"expires_at {time}"),
        ("api_keys", f"last_used_at {time}"),
        ("api_keys", "revision BIGINT NOT NULL DEFAULT 0"),
        ("api_keys", "version INTEGER NOT NULL DEFAULT 1"),
    ):
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    op.create_index("ix_api_keys_owner_id", "api_keys", ["owner_id"])
    op.create_index("ix_api_keys_revision", "api_keys", ["revision"])
    op.execute("INSERT INTO revisions (name, revision) VALUES ('keys', 0), ('people', 0)")
