"""Half a character in JSON, as JavaScript writes it where it has cut a text: `\\ud83d` without its `\\ude00`.

JSON's grammar allows it and it means no character: a strict reader refuses the whole document for it.
"""

from __future__ import annotations

import re
from typing import Final

# A run of backslashes in pairs is text of its own: an escape begins after it, if at all.
_BEGINS: Final = rb"(?<!\\)((?:\\\\)*)"
_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F]"
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F][0-9a-fA-F]"
_LONE_HIGH: Final = re.compile(_BEGINS + _HIGH + rb"(?!" + _LOW + rb")")
_LONE_LOW: Final = re.compile(rb"(?<!" + _HIGH + rb")" + _BEGINS + _LOW)
_REPLACED: Final = rb"\1\\ufffd"


def without_lone_surrogates(body: bytes) -> bytes:
    """Return a JSON document with a replacement character for each half of one."""
    return _LONE_LOW.sub(_REPLACED, _LONE_HIGH.sub(_REPLACED, body))
