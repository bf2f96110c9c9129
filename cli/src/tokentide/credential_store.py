"""Secrets of this user: in the system's keyring where there is one that can be trusted, else nowhere here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_SERVICE: Final = "tokentide"
# These keep nothing, or keep it in a file of their own: open, or behind a password to type each time.
_NO_KEYRINGS: Final = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt", "keyring_pass")


def keyring_keep(account: str, secret: str) -> str:
    """Keep a secret in the system's keyring and return its name; empty: there is none that works."""
    try:
        backend = _usable()
        if backend is None:
            return ""
        backend.set_password(_SERVICE, account, secret)
        kept = backend.get_password(_SERVICE, account)
    except Exception:  # backends raise whatever their system does; the file serves then
        return ""
    # Some say yes and keep nothing.
    return str(backend.name) if kept == secret else ""


def keyring_secret(account: str) -> str | None:
    """Return a secret that was kept, or None: forgotten, or the keyring is locked or away."""
    try:
        backend = _usable()
        return backend.get_password(_SERVICE, account) if backend is not None else None
    except Exception:  # as in `keyring_keep`
        return None


def keyring_forget(account: str) -> bool:
    """Forget a secret; tell whether it is gone."""
    try:
        backend = _usable()
        if backend is None:
            return False
        if backend.get_password(_SERVICE, account) is not None:
            backend.delete_password(_SERVICE, account)
    except Exception:  # as in `keyring_keep`
        return False
    return True


def _usable() -> KeyringBackend | None:
    import keyring  # noqa: PLC0415 -- looks for every backend there is, which most commands never need

    backend = keyring.get_keyring()
    inside = getattr(backend, "backends", None)  # of the one that asks several in turn
    return backend if all(map(_is_keyring, [backend, *(inside or [])])) else None


def _is_keyring(backend: KeyringBackend) -> bool:
    name = f"{type(backend).__module__}."
    return not any(name.startswith(f"{refused}.") for refused in _NO_KEYRINGS)
