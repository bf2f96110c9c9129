"""The secret of this machine's system, under which providers' keys are sealed: made once, and kept."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping

from tokentide.embedded.data_folder import DataFolder


def ensure_secret_key(folder: DataFolder, environ: Mapping[str, str]) -> str:
    """Return the environment's `TOKENTIDE_SECRET_KEY`, else the data folder's, made if there is none yet."""
    given = environ.get("TOKENTIDE_SECRET_KEY", "")
    if given:
        return given
    if not folder.secret_key.exists():
        _make(folder)
    return folder.secret_key.read_text("ascii").strip()


def _make(folder: DataFolder) -> None:
    part = folder.secret_key.with_suffix(f".{os.getpid()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48) + "\n")
        file.flush()
        os.fsync(file.fileno())
    # The first one stays, also of two that are made at once: keys may be sealed under it already.
    with contextlib.suppress(FileExistsError):
        folder.secret_key.hardlink_to(part)
    part.unlink()
