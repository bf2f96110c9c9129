"""The login of this machine: who, where, and its keys, which are in the system's keyring if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import platformdirs

from tokentide.credential_store import keyring_forget, keyring_keep, keyring_secret
from tokentide.failures import Failure
from tokentide.files import replace_file

FILE_STORE: Final = "file"


class Keys(msgspec.Struct, frozen=True):
    """What a login gave to this machine."""

    machine_key: str
    api_key: str

    def of(self, service: str) -> str:
        """Return the key for ingest or for the query API."""
        return self.machine_key if service == "ingest" else self.api_key


class StoredLogin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a login. Without `keys` they are in the keyring."""

    server: str
    """The query API."""
    ingest: str = ""
    organization_id: str
    organization: str
    user_id: str
    email: str
    machine_id: str
    logged_in_at: str
    key_ids: list[str] = []
    kept_in: str = FILE_STORE
    keys: Keys | None = None

    def address(self, service: str) -> str:
        """Return where ingest or the query API is; empty: unknown."""
        return self.ingest if service == "ingest" else self.server


def config_dir() -> Path:
    """Return the platform's folder for what the user has set up."""
    return Path(platformdirs.user_config_dir("tokentide", appauthor=False))


def login_file() -> Path:
    """Return where a login is kept."""
    return config_dir() / "login.json"


def read_login() -> StoredLogin | None:
    """Return the login, or None without one. Raises `Failure` for a file that cannot be read."""
    path = login_file()
    try:
        return msgspec.json.decode(path.read_bytes(), type=StoredLogin)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        # Not as good as none: the numbers would silently go to, or come from, somewhere else.
        raise Failure(
            f"{path} cannot be read: {error}", hint="log in again: `tokentide login --url …`"
        ) from None


def keys_of(login: StoredLogin) -> Keys:
    """Return the keys of a login. Raises `Failure` when the keyring does not give them."""
    if login.keys is not None:
        return login.keys
    secret = keyring_secret(login.server)
    try:
        return msgspec.json.decode(secret or "", type=Keys)
    except msgspec.MsgspecError:
        raise Failure(
            f"the keys for {login.server} are not in the keyring ({login.kept_in}), or it is locked",
            hint="unlock it, or log in again: `tokentide login`; with --keep-in-file without the keyring",
        ) from None


def store_login(login: StoredLogin, keys: Keys, *, in_file: bool) -> StoredLogin:
    """Keep a login in place of the one before; return it with where its keys are."""
    secret = msgspec.json.encode(keys).decode()
    keyring = "" if in_file else keyring_keep(login.server, secret)
    if keyring:
        stored = msgspec.structs.replace(login, kept_in=keyring, keys=None)
    else:
        stored = msgspec.structs.replace(login, kept_in=FILE_STORE, keys=keys)
    # Readable by its owner only: `replace_file` makes it so before anything is in it.
    replace_file(login_file(), msgspec.json.encode(stored))
    return stored


def forget_login(login: StoredLogin) -> bool:
    """Forget a login and its keys; tell whether nothing of them is left."""
    gone = login.keys is not None or keyring_forget(login.server)
    login_file().unlink(missing_ok=True)
    return gone
