"""What a key stands for, written onto whatever it brings: the same at every door."""

from __future__ import annotations

from typing import Final

from tokentide_common.accounts import KeyRecord
from tokentide_common.activity import ActivityFact
from tokentide_common.events import UsageEvent

_KEY_DEFAULTS: Final = ("user_id", "user_email", "team", "department", "project")
Defaults = list[tuple[str, str]]
"""Field and value, for where nothing is said."""


def defaults_of(key: KeyRecord, *, machine_id: str = "") -> Defaults:
    """Return what the key, and the machine that sends, say where an event or a fact says nothing."""
    said = {name: getattr(key, name) for name in _KEY_DEFAULTS} | {"machine_id": machine_id}
    return [(name, value) for name, value in said.items() if value]


def stamp(said: UsageEvent | ActivityFact, key: KeyRecord, defaults: Defaults) -> None:
    """Stamp an event or a fact with what its key stands for."""
    # Whatever a body says, it speaks for the organisation of its key.
    said.org_id = key.org_id
    said.key_id = key.key_id
    if key.machine_id:
        said.machine_id = key.machine_id
    if said.user_id == said.user_email and _is_users_own(key, said.user_email):
        # One person has one name: that of the key, under which a log that knows no address counts.
        said.user_id = ""
    for name, value in defaults:
        if not getattr(said, name):
            setattr(said, name, value)
    if not said.user_id:
        # For want of a name the address stands for the person, then the account, then the installation.
        said.user_id = said.user_email.casefold()[:256] or said.account_id or said.device_id


def _is_users_own(key: KeyRecord, address: str) -> bool:
    return bool(key.user_id and address) and address.casefold() == key.user_email.casefold()
