"""Which server to talk to, with which key: flags, environment, the login, the system in the data folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
import platformdirs

from tokentide.failures import Exit, Failure
from tokentide.stored_login import StoredLogin, keys_of, read_login

Service = Literal["ingest", "query"]

APP: Final = "tokentide"
_KEY_FIELD: Final = {"ingest": "machine_key", "query": "api_key"}
_KEY_LETTER: Final = {"ingest": "m", "query": "a"}
# An API key that may manage also sends.
_TAKEN: Final = {"ingest": ("tt_m_", "tt_a_"), "query": ("tt_a_",)}


class Connection(msgspec.Struct, frozen=True):
    """A server's address and the key for it."""

    url: str
    key: str

    def fingerprint_for(self, machine_id: str) -> str:
        """Tell one server, organisation and sender from another; the key cannot be found from it.

        A key belongs to one organisation of one server, so a new server, or an old one set up afresh at the
        same address, gets everything.
        """
        return hashlib.sha256(f"{self.url}\x1f{self.key}\x1f{machine_id}".encode()).hexdigest()[:24]


class _Credentials(msgspec.Struct):
    organization: str = ""
    api_key: str = ""
    machine_key: str = ""


class _Addresses(msgspec.Struct):
    ingest: str = ""
    query: str = ""


_Found = TypeVar("_Found", _Credentials, _Addresses)


def default_data_dir() -> Path:
    """Return the platform's folder for the data of the embedded system."""
    return Path(platformdirs.user_data_dir(APP, appauthor=False))


def default_state_dir() -> Path:
    """Return the platform's folder for what this client remembers."""
    return Path(platformdirs.user_state_dir(APP, appauthor=False))


def find_connection(service: Service, url: str | None, key: str | None, data_dir: Path | None) -> Connection:
    """Return where a service is: as given, else by the login, else as the embedded system wrote it down.

    A `data_dir` that was given comes before the login. Raises `Failure` that says which of address and key is
    missing.
    """
    login = read_login() if data_dir is None and not (url and key) else None
    folder = data_dir or default_data_dir()
    address = url or _known_address(service, login, folder)
    if not address:
        raise Failure(
            f"no {service} server is known",
            hint="start one with `tokentide up`, log in with `tokentide login`, or set"
            f" TOKENTIDE_{service.upper()}_URL or --url (no addresses.json in {folder})",
            code=Exit.USAGE,
        )
    # A key of the login goes to the server that gave it, and to no other.
    if login is not None and not key and _same(address, login.address(service)):
        key = keys_of(login).of(service)
    key = key or getattr(_read(folder / "credentials.json", _Credentials), _KEY_FIELD[service])
    if not key:
        raise Failure(
            f"no key for {address}",
            hint=f"set TOKENTIDE_KEY or --key to a key that begins with tt_{_KEY_LETTER[service]}_,"
            " or `tokentide login`",
            code=Exit.USAGE,
        )
    return Connection(address.rstrip("/"), key)


def usual_connection(service: Service, environ: Mapping[str, str], data_dir: Path | None) -> Connection:
    """Return where a service is for a command without flags. Raises as `find_connection`."""
    url, key = environ.get(f"TOKENTIDE_{service.upper()}_URL"), environ.get("TOKENTIDE_KEY", "")
    # One variable serves all commands, and holds the key of one kind.
    fits = key.startswith(_TAKEN[service])
    return find_connection(service, url or None, key if fits else None, data_dir)


def query_address(url: str | None, data_dir: Path | None) -> str:
    """Return the query API to log in at. Raises `Failure` without one."""
    login = read_login() if data_dir is None and not url else None
    folder = data_dir or default_data_dir()
    address = url or _known_address("query", login, folder)
    if urlsplit(address).scheme not in {"http", "https"}:
        raise Failure(
            f"{address} is no address" if address else "no server is known",
            hint="name it: `tokentide login --url https://tokentide.example.com`",
            code=Exit.USAGE,
        )
    return address.rstrip("/")


def _known_address(service: Service, login: StoredLogin | None, folder: Path) -> str:
    if login is None:
        return str(getattr(_read(folder / "addresses.json", _Addresses), service))
    if not login.address(service):
        # Not the embedded system instead: what is pushed would silently go elsewhere.
        raise Failure(
            f"the login at {login.server} knows no {service} server",
            hint="log in again with --ingest-url, or set TOKENTIDE_INGEST_URL",
            code=Exit.USAGE,
        )
    return login.address(service)


def _same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _read(path: Path, kind: type[_Found]) -> _Found:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        # Not there yet, or being written: as good as unknown, and the caller says what is missing.
        return kind()
