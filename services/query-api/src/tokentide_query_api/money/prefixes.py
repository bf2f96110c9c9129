"""Where a conversation lost its cache: a call that reads far less than the one before had cached. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

Cause = Literal["expired", "model_changed", "prompt_changed"]
LEAST_TOKENS: Final = 1024
"""Less than this providers do not cache."""
KEPT_SHARE: Final = 0.5
_SHORT_MS: Final = 300_000
_LONG_MS: Final = 3_600_000


class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Calls of a moment that are alike, in the order of the columns of which they are read.

    Tens of thousands are looked at for one question: columns are not named in each, nor cycles looked for.
    """

    session: int
    calls: int
    at_ms: int
    session_id: str
    agent: str
    is_sidechain: bool
    provider: str
    model: str
    service_tier: str
    speed: str
    inference_geo: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int

    @property
    def written(self) -> int:
        """How many tokens it put into the cache."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def prompt(self) -> int:
        """How many tokens were sent and read."""
        return self.input_tokens + self.cache_read_tokens + self.written


class Loss(msgspec.Struct, frozen=True):
    """A call that had to send, and pay for, what was cached before."""

    before: Call
    after: Call
    lost_tokens: int
    cause: Cause

    @property
    def gap_ms(self) -> int:
        """Time since the call before."""
        return self.after.at_ms - self.before.at_ms


def losses(calls: Iterable[Call]) -> Iterator[Loss]:
    """Yield the losses in calls that are ordered by thread and, inside it, by time.

    A thread is a session's main line or one of its agents: each has a prompt, and so a cache, of its own.
    A prompt that has become much shorter was summed up, and lost nothing.
    """
    before: Call | None = None
    cached = 0  # once for each call, and without a function's call: there are tens of thousands
    for call in calls:
        read, written = call.cache_read_tokens, call.cache_write_5m_tokens + call.cache_write_1h_tokens
        if before is not None and cached >= LEAST_TOKENS and read < KEPT_SHARE * cached:
            prompt = call.input_tokens + read + written
            # Of what was cached only that is lost which the prompt still holds.
            held = min(cached, prompt)
            lost = prompt >= KEPT_SHARE * cached and read < KEPT_SHARE * held
            if lost and _thread(before) == _thread(call):
                yield Loss(before, call, held - read, _cause(before, call))
        before, cached = call, read + written


def _thread(call: Call) -> tuple[str, str, bool]:
    return call.session_id, call.agent, call.is_sidechain


def _cause(before: Call, after: Call) -> Cause:
    if before.model != after.model:
        return "model_changed"
    lasts = _LONG_MS if before.cache_write_1h_tokens else _SHORT_MS
    return "expired" if after.at_ms - before.at_ms > lasts else "prompt_changed"
