"""Named points at which a fault test may kill or stop the process; they do nothing unless asked for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final, Literal, get_args

from tokentide_common.errors import TokentideError

Point = Literal["after_claim", "before_insert", "after_insert", "after_seen", "after_publish", "after_commit"]
Failpoint = Callable[[Point], None]

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def failpoint(text: str) -> Failpoint:
    """Return what `<point>:<kill|stop>[@n]` asks for: the signal at the n-th pass (the first by default).

    "" asks for nothing. Raises `TokentideError` for anything else, so that a fault test cannot test nothing.
    """
    if not text:
        return lambda _point: None
    name, _, rest = text.partition(":")
    action, _, count = rest.partition("@")
    if name not in get_args(Point) or action not in _SIGNALS or not (count or "1").isdigit():
        raise TokentideError(f"not a failpoint: {text!r}", code="invalid_settings")
    passes = 0

    def at(point: Point) -> None:
        nonlocal passes
        if point == name:
            passes += 1
            if passes == int(count or 1):
                os.kill(os.getpid(), _SIGNALS[action])

    return at
