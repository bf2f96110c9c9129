"""What the routes of people's own accounts read and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

from tokentide_common.key_directory import Role
from tokentide_query_api.accounts.passwords import LEAST, MOST
from tokentide_query_api.accounts.words import Email, Id, Label, Name

NewPassword: TypeAlias = Annotated[str, msgspec.Meta(min_length=LEAST, max_length=MOST)]
KnownPassword: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST)]
Secret: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Handle: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{1,38}[0-9A-Za-z]$(?!\n)")]


class NewOrganisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An organisation that begins with the person who signs up."""

    name: Name
    time_zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"


class SignUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who wants an account."""

    email: Email
    password: NewPassword
    display_name: Label = ""
    organisation: NewOrganisation | None = None
    """Of whoever begins one; none: named after the person."""
    invitation: Secret | None = None
    """What the letter's link ends with."""


class LogIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who says who they are, and in which of their organisations they want to work."""

    email: Email
    password: KnownPassword
    organisation: Id | None = None


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A refresh token, which is good once."""

    refresh_token: Secret


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another organisation of the same person."""

    org_id: Id


class Acceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invitation that somebody accepts who has an account already."""

    invitation: Secret


class MailedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a letter's link ends with."""

    token: Secret


class Forgotten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who forgot their password."""

    email: Email


class Heard(msgspec.Struct, frozen=True):
    """All that is said to whoever forgot a password, known or not."""

    detail: str = "If this address has an account, a letter is on its way."


class NewPasswordByLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password, and what the letter's link ends with."""

    token: Secret
    password: NewPassword


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password of somebody who knows the old one."""

    old: KnownPassword
    new: NewPassword


class MyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody changes of themselves; what is absent stays."""

    display_name: Label | msgspec.UnsetType = msgspec.UNSET
    handle: Handle | msgspec.UnsetType | None = msgspec.UNSET
    """Under which the leaderboard across organisations shows them; null: no handle."""
    on_leaderboard: bool | msgspec.UnsetType = msgspec.UNSET
    password: PasswordChange | msgspec.UnsetType = msgspec.UNSET


class ShownUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user, to themselves."""

    id: str
    email: str
    display_name: str
    email_verified: bool
    has_password: bool
    handle: str | None
    on_leaderboard: bool


class ShownOrganisation(msgspec.Struct, frozen=True):
    """An organisation."""

    id: str
    name: str


class MyOrganisation(msgspec.Struct, frozen=True):
    """An organisation that somebody belongs to, and as what."""

    id: str
    name: str
    role: Role


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """An open session: tokens that are shown this once, and who works where."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 -- a kind of token, not one
    expires_in: int
    """Seconds for which the access token is good."""
    refresh_token: str
    """Good once: for the next access token and the next refresh token."""
    user: ShownUser
    organisation: ShownOrganisation
    role: Role


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    kind: Literal["user", "key"]
    user: ShownUser | None
    """None: a key that belongs to the organisation itself."""
    organisation: ShownOrganisation
    role: Role
    scopes: list[str]
    organisations: list[MyOrganisation]
    """All that the user belongs to, and could switch to."""


class NewDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine on which somebody wants to be known."""

    machine_id: Name
    machine_name: Label = ""


class DeviceCodes(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine keeps, and what its user types where they are logged in."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int
    """Seconds to wait between two questions."""


UserCode: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The code that a machine shows."""

    user_code: UserCode


class WaitingDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that shows a code, before anything is decided."""

    machine_id: str
    machine_name: str
    address: str
    """From where it asked."""
    asked_at: datetime


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody decides about a machine that shows this code."""

    user_code: UserCode
    approve: bool


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that was decided about."""

    machine_id: str
    machine_name: str
    address: str
    """From where it asked."""
    asked_at: datetime
    approved: bool


class DeviceCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the machine asks with."""

    device_code: Secret


class DeviceKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of an approved machine, shown this once."""

    machine_key: str
    machine_key_id: str
    api_key: str
    api_key_id: str
    organisation: ShownOrganisation
    user: ShownUser
