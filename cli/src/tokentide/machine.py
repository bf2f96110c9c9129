"""Who this machine is to the server: the id it logged in with, else a random one, and the host's name."""

from __future__ import annotations

import platform
import uuid
from pathlib import Path

import msgspec

from tokentide.failures import Failure
from tokentide.files import replace_file
from tokentide.stored_login import read_login


class Machine(msgspec.Struct, frozen=True):
    """The sender of a batch, as the contract names it."""

    id: str
    name: str


def this_machine(state_dir: Path, *, machine_id: str | None, keep: bool = True) -> Machine:
    """Return this machine, as `machine_id` or else the login names it.

    Without either a random id is made at the first call and kept in the state folder. Nothing is read from
    the hardware or the system, so that id tells nothing about either.
    """
    found = machine_id or _login_id() or _kept_id(state_dir / "machine.json", keep)
    return Machine(found[:256], platform.node()[:256])


def _login_id() -> str:
    try:
        login = read_login()
    except Failure:
        return ""  # whoever needs the login says so
    return "" if login is None else login.machine_id


def _kept_id(path: Path, keep: bool) -> str:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])["id"]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        made = str(uuid.uuid4())
    if keep:
        replace_file(path, msgspec.json.encode({"id": made}))
    return made
