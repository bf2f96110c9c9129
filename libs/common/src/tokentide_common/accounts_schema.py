"""The tables of organisations, people, machines and keys.

What is secret is never here as it is: of keys, invitations, refresh tokens and mailed links there are only
digests, of passwords argon2id hashes, of providers' keys and outgoing letters ciphertext.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from tokentide_common.schema import UtcTime, metadata

_ID: Final = sa.String(64)
_NAME: Final = sa.String(200)
_EMAIL: Final = sa.String(254)
_DIGEST: Final = sa.String(64)
ROLES: Final = ("owner", "admin", "member", "viewer")
"""From the one who may do most to the one who may do least."""
PRIVACY: Final = ("open", "pseudonymous", "private")
"""What members see of each other in an organisation's rankings."""


def _ref(name: str, target: str, *, optional: bool = False, **options: Any) -> sa.Column[str]:  # noqa: ANN401 -- SQLAlchemy's
    return sa.Column(name, _ID, sa.ForeignKey(target), nullable=optional, **options)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, _ID, primary_key=True)


def _text(name: str, kind: sa.String = _NAME) -> sa.Column[str]:
    return sa.Column(name, kind, nullable=False, server_default="")


def _time(name: str, *, optional: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcTime, nullable=optional)


def _version() -> sa.Column[int]:
    """Return the number that a change must name (its ETag), so that nobody overwrites what they never saw."""
    return sa.Column("version", sa.Integer, nullable=False, server_default="1")


def _one_of(name: str, choices: tuple[str, ...], default: str | None) -> sa.Column[str]:
    allowed = ", ".join(f"'{choice}'" for choice in choices)
    check = sa.CheckConstraint(f"{name} IN ({allowed})")
    return sa.Column(name, sa.String(20), check, nullable=False, server_default=default)


organizations = sa.Table(
    "organizations",
    metadata,
    _key("org_id"),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("time_zone", _ID, nullable=False, server_default="UTC"),
    _time("created_at"),
    sa.Column("currency", sa.String(3), nullable=False, server_default="USD"),
    _text("plan", sa.String(40)),
    _one_of("privacy", PRIVACY, "open"),
    _version(),
    _time("closed_at", optional=True),
)

users = sa.Table(
    "users",
    metadata,
    _key("user_id"),
    sa.Column("email", _EMAIL, nullable=False, unique=True),  # lower case
    _text("display_name"),
    sa.Column("password_hash", sa.String(200)),  # none: comes in by an identity provider alone
    _time("email_verified_at", optional=True),
    sa.Column("handle", sa.String(40), unique=True),  # under which the global leaderboard shows them
    sa.Column("on_leaderboard", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("created_at"),
    _version(),
)

memberships = sa.Table(
    "memberships",
    metadata,
    sa.Column("org_id", _ID, sa.ForeignKey("organizations.org_id"), primary_key=True),
    sa.Column("user_id", _ID, sa.ForeignKey("users.user_id"), primary_key=True, index=True),
    _one_of("role", ROLES, None),
    _time("created_at"),
    _version(),
)

teams = sa.Table(
    "teams",
    metadata,
    _key("team_id"),
    _ref("org_id", "organizations.org_id"),
    sa.Column("name", _NAME, nullable=False),
    _text("department"),
    _time("created_at"),
    _version(),
    sa.UniqueConstraint("org_id", "name"),
)

team_members = sa.Table(
    "team_members",
    metadata,
    sa.Column("team_id", _ID, sa.ForeignKey("teams.team_id"), primary_key=True),
    sa.Column("user_id", _ID, sa.ForeignKey("users.user_id"), primary_key=True, index=True),
)

machines = sa.Table(
    "machines",
    metadata,
    sa.Column("org_id", _ID, sa.ForeignKey("organizations.org_id"), primary_key=True),
    sa.Column("machine_id", sa.String(200), primary_key=True),
    _text("name"),
    _ref("user_id", "users.user_id", optional=True),
    _text("cli_version", sa.String(64)),
    _time("first_seen_at"),
    _time("last_seen_at"),
    _version(),
)

# Whom a key speaks for (org, kind, digest) never changes; the rest may. Whoever writes a row sets `revision`
# to the new one of `revisions`, by which every key directory notices (see `key_changes.next_revision`).
api_keys = sa.Table(
    "api_keys",
    metadata,
    _key("key_id"),
    _ref("org_id", "organizations.org_id", index=True),
    sa.Column("kind", sa.String(1), sa.CheckConstraint("kind IN ('m', 'p', 'a')"), nullable=False),
    sa.Column("digest", _DIGEST, nullable=False, unique=True),
    # The label, and what is stamped on a call that does not say it itself.
    *(
        _text(name)
        for name in ("name", "user_id", "user_email", "machine_id", "project", "team", "department")
    ),
    _time("created_at"),
    _time("revoked_at", optional=True),
    # Of an API key: what it may do at most, and for whom it reads; none: for the organisation itself.
    _one_of("role", ROLES, "admin"),
    _text("scopes"),  # separated by blanks; empty: everything that its kind may do
    _ref("owner_id", "users.user_id", optional=True, index=True),
    _time("expires_at", optional=True),
    _time("last_used_at", optional=True),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="0", index=True),
    _version(),
)

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("name", sa.String(20), primary_key=True),  # 'keys': of api_keys; 'people': of the other tables
    sa.Column("revision", sa.BigInteger, nullable=False),
)

# The keys with which an organisation calls its providers, as ciphertext under TOKENTIDE_SECRET_KEY.
provider_credentials = sa.Table(
    "provider_credentials",
    metadata,
    sa.Column("org_id", _ID, sa.ForeignKey("organizations.org_id"), primary_key=True),
    sa.Column("upstream", _ID, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    _time("changed_at"),
)

invitations = sa.Table(
    "invitations",
    metadata,
    _key("invitation_id"),
    _ref("org_id", "organizations.org_id", index=True),
    sa.Column("email", _EMAIL, nullable=False),
    _one_of("role", ROLES, None),
    _ref("team_id", "teams.team_id", optional=True),
    sa.Column("digest", _DIGEST, nullable=False, unique=True),
    _ref("invited_by", "users.user_id", optional=True),
    _time("created_at"),
    _time("expires_at"),
    _time("accepted_at", optional=True),
    _time("revoked_at", optional=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    _key("session_id"),
    _ref("user_id", "users.user_id", index=True),
    _ref("org_id", "organizations.org_id"),
    _text("user_agent"),
    _text("address", sa.String(64)),
    _time("created_at"),
    _time("last_used_at"),
    _time("expires_at"),
    _time("revoked_at", optional=True),
)

# Each is good once. One that comes twice was stolen from somebody: it ends its session.
refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("digest", _DIGEST, primary_key=True),
    _ref("session_id", "sessions.session_id", index=True),
    _time("issued_at"),
    _time("used_at", optional=True),
)

# Links in letters, pending logins of devices and of identity providers: good once and for a while.
one_time_secrets = sa.Table(
    "one_time_secrets",
    metadata,
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("purpose", sa.String(20), nullable=False),
    _ref("user_id", "users.user_id", optional=True, index=True),
    sa.Column("content", sa.LargeBinary),  # sealed
    _time("created_at"),
    _time("expires_at"),
    _time("used_at", optional=True),
)

device_logins = sa.Table(
    "device_logins",
    metadata,
    sa.Column("device_digest", _DIGEST, primary_key=True),
    sa.Column("user_code_digest", _DIGEST, nullable=False, unique=True),
    sa.Column("machine_id", sa.String(200), nullable=False),
    _text("machine_name"),
    _text("address", sa.String(64)),
    _time("created_at"),
    _time("expires_at"),
    _time("polled_at", optional=True),
    _time("decided_at", optional=True),
    sa.Column("approved", sa.Boolean),
    _ref("user_id", "users.user_id", optional=True),
    _ref("org_id", "organizations.org_id", optional=True),
    _time("used_at", optional=True),
    _time("keys_until", optional=True),  # when the key ends that approved it
)

# What stands for a person at an identity provider.
identities = sa.Table(
    "identities",
    metadata,
    sa.Column("issuer", sa.String(255), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    _ref("user_id", "users.user_id", index=True),
    _time("created_at"),
)

# Failed logins by digest of an address or of an e-mail, known or not.
login_failures = sa.Table(
    "login_failures",
    metadata,
    sa.Column("subject", _DIGEST, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    _time("last_failed_at"),
    _time("locked_until", optional=True),
)

outbox = sa.Table(
    "outbox",
    metadata,
    _key("message_id"),
    sa.Column("recipient", _EMAIL, nullable=False),
    sa.Column("subject", _NAME, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # the text holds a link that is good once
    _time("created_at"),
    _time("sent_at", optional=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _time("next_attempt_at"),
)

# Only ever added to: triggers refuse anything else.
audit_log = sa.Table(
    "audit_log",
    metadata,
    _key("audit_id"),  # sorts by time
    _ref("org_id", "organizations.org_id"),
    _time("at"),
    sa.Column("actor_kind", sa.String(20), nullable=False),
    _text("actor_id"),
    _text("actor_name", _EMAIL),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("object_kind", sa.String(40), nullable=False),
    _text("object_id"),
    _text("address", sa.String(64)),
    _text("request_id", _ID),
    sa.Column("detail", sa.Text, nullable=False, server_default="{}"),  # names of what changed, never secrets
    sa.Index("audit_log_by_org", "org_id", "audit_id"),
)

# Shared between replicas: how much each caller has left.
token_buckets = sa.Table(
    "token_buckets",
    metadata,
    sa.Column("bucket", sa.String(128), primary_key=True),
    sa.Column("left", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

# What people pay for their tools by the month, whatever they use.
user_plans = sa.Table(
    "user_plans",
    metadata,
    _key("plan_id"),
    _ref("org_id", "organizations.org_id"),
    sa.Column("subject", _EMAIL, nullable=False),  # a user id as calls have it, or an e-mail in lower case
    sa.Column("provider", _ID, nullable=False, server_default=""),  # empty: of any provider
    sa.Column("plan", sa.String(20), nullable=False),
    sa.Column("monthly_nano", sa.BigInteger, nullable=False),
    sa.Column("valid_from", sa.Date, nullable=False),
    sa.Column("valid_until", sa.Date),  # the first day on which it no longer holds
    _time("created_at"),
    _version(),
    sa.Index("user_plans_by_subject", "org_id", "subject", "plan_id"),
)

# How much an organisation, or a part of it, means to use in a period.
budgets = sa.Table(
    "budgets",
    metadata,
    _key("budget_id"),
    _ref("org_id", "organizations.org_id", index=True),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    _text("scope_value", sa.String(1000)),
    sa.Column("period", sa.String(20), nullable=False),
    sa.Column("unit", sa.String(20), nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),  # nano-dollars or tokens
    sa.Column("thresholds", sa.Text, nullable=False),  # thousandths, as JSON
    sa.Column("channels", sa.LargeBinary, nullable=False),  # sealed: the addresses of webhooks are secrets
    sa.Column("hard_stop", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("created_at"),
    _version(),
)

# Which thresholds were crossed: a row is there once, whoever looks, and however often the numbers cross it.
budget_alerts = sa.Table(
    "budget_alerts",
    metadata,
    _ref("budget_id", "budgets.budget_id", primary_key=True),
    sa.Column("period_start", UtcTime, primary_key=True),
    sa.Column("threshold", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("alert_id", _ID, nullable=False, unique=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    _time("decided_at"),
)

# Which budgets with a hard stop were used up when they were last looked at. It holds while the amount is not
# above `used`: whoever raises the amount ends it in the same statement.
budget_stops = sa.Table(
    "budget_stops",
    metadata,
    _ref("budget_id", "budgets.budget_id", primary_key=True),
    sa.Column("until_s", sa.BigInteger, nullable=False),  # the period's end, in seconds since 1970
    sa.Column("used", sa.BigInteger, nullable=False),
)

# What is to be told to webhooks; it waits here until they took it.
alert_deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    _key("delivery_id"),
    _ref("org_id", "organizations.org_id", index=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # where to, and signed with what
    sa.Column("body", sa.Text, nullable=False),
    _time("created_at"),
    _time("sent_at", optional=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _time("next_attempt_at"),
)
