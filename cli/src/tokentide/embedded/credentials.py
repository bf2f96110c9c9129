"""The first start makes an organisation and its keys; every later one finds them."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import msgspec

from tokentide.embedded.data_folder import DataFolder
from tokentide_common.accounts import create_organization, issue_key

if TYPE_CHECKING:
    from tokentide_common.database import Engine


class Credentials(msgspec.Struct, frozen=True):
    """`credentials.json`: the one place where the keys themselves are; the database has only digests."""

    organization: str
    api_key: str
    machine_key: str
    proxy_key: str


def ensure_credentials(folder: DataFolder, engine: Engine, time_zone: str) -> Credentials:
    """Return the credentials, made at the first start.

    A start that died between the database and the file makes a new organisation: nobody had the old keys.
    """
    known = read_credentials(folder)
    if known is not None:
        return known
    org_id = create_organization(engine, "local", time_zone=time_zone)
    user = _user_name()
    made = Credentials(
        organization=org_id,
        api_key=issue_key(engine, org_id, "a", name="local api")[0],
        machine_key=issue_key(engine, org_id, "m", name="local machine", user_id=user)[0],
        proxy_key=issue_key(engine, org_id, "p", name="local proxy", user_id=user)[0],
    )
    folder.write_private(folder.credentials, made)
    return made


def read_credentials(folder: DataFolder) -> Credentials | None:
    """Return the credentials of a folder, None before the first start in it."""
    if not folder.credentials.exists():
        return None
    return msgspec.json.decode(folder.credentials.read_bytes(), type=Credentials)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "local"
