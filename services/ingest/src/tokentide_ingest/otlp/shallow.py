"""Takes out of JSON what is nested too deeply for a reader: such a value costs itself, not its request."""

from __future__ import annotations

import re
from typing import Final

# Nothing of what is read stands as deep as this.
_MAX_LEVELS: Final = 100
# A text as a whole, so that no bracket inside is taken for one; one without an end reaches up to the end.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
_OPEN, _CLOSED = b"[{", b"]}"


def shallow(body: bytes) -> bytes:
    """Return a JSON document in which null stands for every value below so many levels."""
    kept: list[bytes] = []
    levels = taken = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in _OPEN:
            levels += 1
            if levels == _MAX_LEVELS + 1:
                kept.append(body[taken : token.start()])
        elif first in _CLOSED:
            if levels == _MAX_LEVELS + 1:
                kept.append(b"null")
                taken = token.end()
            levels -= 1
    kept.append(body[taken:])
    return b"".join(kept)
