"""What a killed engine leaves half done, and what is done about it before the folder is opened again.

A store that is a server starts by the same script: `compose.yaml` shows how.
"""

from __future__ import annotations

import asyncio
from importlib.resources import as_file, files
from pathlib import Path

import structlog

from tokentide_common.errors import Unavailable

_log = structlog.get_logger(__name__)


async def forget_lost_tokens(folder: Path) -> None:
    """Forget the tokens of inserts whose rows this folder's engine never had: a repeat then brings them.

    Nobody may have the folder open. Raises `Unavailable` where the engine's files cannot be read or written.
    """
    with as_file(files("tokentide_common") / "forget_lost_tokens.sh") as script:
        process = await asyncio.create_subprocess_exec(
            *("sh", str(script), str(folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
    lines = said.decode(errors="replace").splitlines()
    if process.returncode:
        raise Unavailable(
            f"the store's files in {folder} must be ours to read and write: {' '.join(lines)}",
            code="store_unavailable",
        )
    for line in lines:
        _log.warning("insert_was_half_done", said=line)
