"""Which server to talk to and with which key: flags, then environment, then the system in the data folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import platformdirs

from tokentide.failures import Exit, Failure

Service = Literal["ingest", "query"]

APP: Final = "tokentide"
_KEY_FIELD: Final = {"ingest": "machine_key", "query": "api_key"}
_KEY_LETTER: Final = {"ingest": "m", "query": "a"}


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
    """Return where a service is: as given, else as the embedded system wrote into its data folder.

    Raises `Failure` that says which of address and key is missing.
    """
    folder = data_dir or default_data_dir()
    url = url or getattr(_read(folder / "addresses.json", _Addresses), service)
    if not url:
        raise Failure(
            f"no {service} server is known",
            hint=f"start one with `tokentide up`, or set TOKENTIDE_{service.upper()}_URL or --url"
            f" (no addresses.json in {folder})",
            code=Exit.USAGE,
        )
    key = key or getattr(_read(folder / "credentials.json", _Credentials), _KEY_FIELD[service])
    if not key:
        raise Failure(
            f"no key for {url}",
            hint=f"set TOKENTIDE_KEY or --key to a key that begins with tt_{_KEY_LETTER[service]}_",
            code=Exit.USAGE,
        )
    return Connection(url.rstrip("/"), key)


def _read(path: Path, kind: type[_Found]) -> _Found:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        # Not there yet, or being written: as good as unknown, and the caller says what is missing.
        return kind()
