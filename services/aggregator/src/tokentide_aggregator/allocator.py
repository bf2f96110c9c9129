"""Giving memory back: a block leaves tens of megabytes free that the C library would keep for itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

_ARENA_MAX: Final = -8  # M_ARENA_MAX of glibc


def share_one_arena() -> None:
    """Let all threads allocate from one heap: each of their own would keep its peak. Before threads start.

    They rarely allocate at the same time, since the interpreter runs one at a time.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return free memory to the system. Takes milliseconds and leaves the interpreter to other threads."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc, None where the C library is another one."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # no such thing as the process's own library
        return None
    found: Callable[..., int] | None = getattr(library, name, None)
    return found
