"""Where a conversation lost its cache: a call that reads far less than the one before had cached. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

Cause = Literal["expired", "model_changed", "prompt_changed"]
LEAST_TOKENS: Final = 1024
"""Less than this providers do not cache."""
KEPT_SHARE: Final = 0.5
_SHORT_MS: Final = 300_000
_LONG_MS: Final = 3_600_000


class Loss(msgspec.Struct, frozen=True):
    """A call that had to send, and pay for, what was cached before."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    lost_tokens: int
    cause: Cause

    @property
    def gap_ms(self) -> int:
        """Time since the call before."""
        return int(self.after["at_ms"] - self.before["at_ms"])


def losses(calls: Iterable[Mapping[str, Any]]) -> Iterator[Loss]:
    """Yield the losses in calls that are ordered by thread and, inside it, by time.

    A thread is a session's main line or one of its agents: each has a prompt, and so a cache, of its own.
    A prompt that has become much shorter was summed up, and lost nothing.
    """
    before: Mapping[str, Any] | None = None
    for call in calls:
        if before is not None and _thread(before) == _thread(call):
            cached = before["cache_read_tokens"] + written(before)
            prompt = call["input_tokens"] + call["cache_read_tokens"] + written(call)
            # Of what was cached only that is lost which the prompt still holds.
            lost = min(cached, prompt) - call["cache_read_tokens"]
            if (
                cached >= LEAST_TOKENS
                and prompt >= KEPT_SHARE * cached
                and call["cache_read_tokens"] < KEPT_SHARE * min(cached, prompt)
            ):
                yield Loss(before, call, lost, _cause(before, call))
        before = call


def written(call: Mapping[str, Any]) -> int:
    """Return how many tokens a call put into the cache."""
    return int(call["cache_write_5m_tokens"] + call["cache_write_1h_tokens"])


def _thread(call: Mapping[str, Any]) -> tuple[str, str, bool]:
    return call["session_id"], call["agent"], call["is_sidechain"]


def _cause(before: Mapping[str, Any], after: Mapping[str, Any]) -> Cause:
    if before["model"] != after["model"]:
        return "model_changed"
    lasts = _LONG_MS if before["cache_write_1h_tokens"] else _SHORT_MS
    return "expired" if after["at_ms"] - before["at_ms"] > lasts else "prompt_changed"
