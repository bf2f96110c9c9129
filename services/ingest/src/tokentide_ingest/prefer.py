"""The `Prefer` header (RFC 7240)."""

from __future__ import annotations

import re
from typing import Final

MAX_WAIT_S: Final = 30
_WAIT: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def wait_preference(header: str) -> int:
    """Return the seconds that the client is ready to wait, 0 if it does not say, at most `MAX_WAIT_S`.

    What cannot be read is ignored, as the RFC asks for.
    """
    found = _WAIT.search(header)
    return min(int(found[1]), MAX_WAIT_S) if found else 0
