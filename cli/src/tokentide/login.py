"""`tokentide login`: make this machine known to a server, by a code that its user approves there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from cyclopts import Parameter

from tokentide.account_requests import AccountRequests
from tokentide.connection import Connection, default_state_dir, query_address
from tokentide.credential_store import keyring_forget
from tokentide.device_login import DeviceLogin, Granted
from tokentide.failures import Exit, Failure
from tokentide.http import open_client
from tokentide.logout import revoke_keys
from tokentide.machine import Machine, this_machine
from tokentide.options import DataDir, Json, MachineId, QueryUrl, StateDir
from tokentide.stored_login import (
    FILE_STORE,
    Keys,
    StoredLogin,
    keys_of,
    login_file,
    read_login,
    store_login,
)
from tokentide.terminal import notes, results, write_json

_INGEST_PORT: Final = 4318
_HEALTH: Final = "/api/v1/cli/health"
_TIMEOUT_S: Final = 5.0


def login(
    *,
    ingest_url: Annotated[
        str | None,
        Parameter(
            env_var="TOKENTIDE_INGEST_URL",
            help="Address of the ingest server, where it is neither that of the query API nor its port 4318.",
        ),
    ] = None,
    keep_in_file: Annotated[
        bool, Parameter(negative="", help="Keep the keys in a file although there is a keyring.")
    ] = False,
    machine: MachineId = None,
    as_json: Json = False,
    url: QueryUrl = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> int:
    """Log in this machine: it shows a code, and whoever is logged in on the server approves it.

    The machine gets keys of its own, which push and ask in your name; every command uses them from then on.
    """
    server = query_address(url, data_dir)
    _warn_of_plain_http(server)
    me = this_machine(state_dir or default_state_dir(), machine_id=machine)
    # Everything that takes time or can go wrong comes first: once there are keys they are kept at once.
    ingest = (ingest_url or _ingest_of(server)).rstrip("/")
    previous = _previous()
    granted = _granted(server, me)
    keys = Keys(granted.machine_key, granted.api_key)
    found = StoredLogin(
        server=server,
        ingest=ingest,
        organization_id=granted.organisation.id,
        organization=granted.organisation.name,
        user_id=granted.user.id,
        email=granted.user.email,
        machine_id=me.id,
        logged_in_at=datetime.now(UTC).isoformat(timespec="seconds"),
        key_ids=granted.key_ids,
    )
    stored = keep_or_revoke(found, keys, in_file=keep_in_file)
    if previous is not None:
        _end(previous, stored, keys)
    _report(stored, as_json=as_json)
    return Exit.OK


def _granted(server: str, machine: Machine) -> Granted:
    device = DeviceLogin(AccountRequests(Connection(server, "")))
    codes = device.begin(machine)
    console = notes()
    try:
        console.print(f"Open    {codes.verification_uri}", markup=False)
        console.print(f"enter   {codes.user_code}", markup=False)
        console.print(f"within {round(codes.expires_in / 60)} minutes; Ctrl-C breaks off.", markup=False)
        return device.wait(codes)
    except KeyboardInterrupt:
        console.print("broken off: nobody is logged in, and the code ends by itself", markup=False)
        raise


def _ingest_of(server: str) -> str:
    """Return where ingest is: at this address, as behind a gateway, or at its own port; empty: neither."""
    parts = urlsplit(server)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    for address in (server, f"{parts.scheme}://{host}:{_INGEST_PORT}"):
        try:
            with open_client(Connection(address, ""), timeout_s=_TIMEOUT_S) as client:
                answer = client.get(_HEALTH)
            # A web server that answers everything with its page is no ingest.
            if answer.is_success and "limits" in msgspec.json.decode(answer.content, type=dict[str, Any]):
                return address
        except (httpx.TransportError, msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return ""


def keep_or_revoke(found: StoredLogin, keys: Keys, *, in_file: bool) -> StoredLogin:
    """Keep the login; where that cannot be its keys, which nobody has then, are revoked again."""
    try:
        return store_login(found, keys, in_file=in_file)
    except OSError as error:
        revoked, _ = revoke_keys(found, keys.api_key)
        left = ", ".join(key_id for key_id in found.key_ids if key_id not in revoked)
        raise Failure(
            f"the login cannot be kept in {login_file()}: {error}",
            hint=f"make it writable and log in again; revoke {left} on the server"
            if left
            else "make it writable and log in again; the keys that were just made are revoked",
        ) from None


def _previous() -> StoredLogin | None:
    """Return the login that this one replaces, with its keys: the new ones may take their place."""
    try:
        stored = read_login()
    except Failure:
        return None
    if stored is None:
        return None
    try:
        return msgspec.structs.replace(stored, keys=keys_of(stored))
    except Failure:
        return stored


def _end(previous: StoredLogin, stored: StoredLogin, keys: Keys) -> None:
    """Revoke the keys of the login before, so that logging in again and again leaves no keys behind."""
    if _owner(previous) == _owner(stored):
        api_key = keys.api_key  # it is good now; the one before may have ended, or be locked away
    else:
        api_key = previous.keys.api_key if previous.keys is not None else ""
    revoked, failure = revoke_keys(previous, api_key)
    if failure is not None or not previous.key_ids:
        left = ", ".join(key_id for key_id in previous.key_ids if key_id not in revoked)
        notes().print(
            f"keys of the login before may still work: {left or 'their ids are unknown'}", markup=False
        )
    if previous.kept_in != FILE_STORE and (previous.server, previous.kept_in) != (
        stored.server,
        stored.kept_in,
    ):
        keyring_forget(previous.server)


def _owner(login: StoredLogin) -> tuple[str, str, str]:
    return login.server, login.organization_id, login.user_id


def _warn_of_plain_http(server: str) -> None:
    parts = urlsplit(server)
    if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        notes().print(f"[yellow]careful:[/] {server} is not https: keys can be read on their way")


def _report(stored: StoredLogin, *, as_json: bool) -> None:
    where = str(login_file()) if stored.kept_in == FILE_STORE else stored.kept_in
    if as_json:
        write_json(
            {
                "server": stored.server,
                "ingest": stored.ingest or None,
                "organization": {"id": stored.organization_id, "name": stored.organization},
                "user": {"id": stored.user_id, "email": stored.email},
                "machine_id": stored.machine_id,
                "kept_in": where,
            }
        )
    else:
        who = f"{stored.email} in {stored.organization} ({stored.server})"
        results().print(f"logged in as {who}", markup=False, highlight=False)
    if stored.kept_in == FILE_STORE:
        notes().print(f"the keys are in {where}, which only you can read: no keyring is used", markup=False)
    else:
        notes().print(f"the keys are in the keyring: {where}", markup=False)
    if not stored.ingest:
        notes().print(
            "no ingest server was found there: for `push`, log in again with --ingest-url", markup=False
        )
