"""Secrets come from a prompt that shows nothing, or from standard input; arguments are seen by everybody."""

from __future__ import annotations

import getpass
import sys
from typing import Final

_MAX: Final = 64 * 1024


def read_secret(prompt: str) -> str:
    """Return what is typed, or the whole of standard input where nobody types; blanks around it go."""
    said = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.read(_MAX)
    return said.strip()
