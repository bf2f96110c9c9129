"""Claude Code's log: one line of a session file becomes a `UsageEvent`, or nothing. Pure.

The structs below are the allow-list: only the fields that they name are ever decoded. Prompts, answers,
tool inputs and file contents are in fields that have no name here, so nothing can pass them on.
The format is internal to Claude Code and changes without notice: a field that decorates a call may change its
type without losing the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from tokentide_common.events import Count, UsageEvent, Utc
from tokentide_common.identity import call_id_for, derived_call_id, fitting
from tokentide_common.merge import nano_usd, usd_text
from tokentide_common.providers import provider_of

CLIENT: Final = "claude-code"
USAGE_MARK: Final = b'"usage"'
"""Every line that reports usage contains it; most lines of a log do not."""
UNREADABLE: Final = (ValueError, RecursionError)
"""What reading a damaged line raises: not JSON, not UTF-8, not the expected shape, nested without end."""

_NOT_A_CALL: Final = "<synthetic>"
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?!\d)")
_TELLS_THE_END: Final = (2, 1, 285)
_TEXT: Final = 256
_LONG_TEXT: Final = 1024


class LogPlace(msgspec.Struct, frozen=True):
    """What a whole log file says about each of its lines."""

    session_started_at: datetime | None = None
    project: str = ""


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Count | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: Count | None = None


class _Usage(msgspec.Struct):
    input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _CallLine(msgspec.Struct, rename="camel"):
    """What makes a line a call, and which."""

    timestamp: Utc
    type: str | None = None
    session_id: str | None = None
    request_session_id: str | None = None
    request_id: str | None = None
    uuid: str | None = None
    is_sidechain: bool | None = None
    is_api_error_message: bool | None = None
    message: _Message | None = None


class _FullLine(_CallLine, rename="camel"):
    """A call's line with what decorates it."""

    agent_id: str | None = None
    attribution_agent: str | None = None
    effort: str | None = None
    entrypoint: str | None = None
    git_branch: str | None = None
    prompt_id: str | None = None
    version: str | None = None
    cost_usd: Decimal | None = msgspec.field(name="costUSD", default=None)


class _Opening(msgspec.Struct):
    timestamp: Utc | None = None
    cwd: str | None = None


_decode_full: Final[Callable[[bytes], _FullLine]] = msgspec.json.Decoder(_FullLine).decode
_decode_call: Final[Callable[[bytes], _CallLine]] = msgspec.json.Decoder(_CallLine).decode
_decode_opening: Final[Callable[[bytes], _Opening]] = msgspec.json.Decoder(_Opening).decode


def read_call(line: bytes, place: LogPlace) -> UsageEvent | None:
    """Return what a line says about a call, `None` where it is about something else.

    Several lines can speak of one call (one per content block, copies in forked sessions): each gives an
    event with the same `call_id`, and their join is the call. Raises one of `UNREADABLE` for a line that
    cannot be read.
    """
    if USAGE_MARK not in line:
        return None
    read = _decode(line)
    message = read.message
    if message is None or message.usage is None or read.type not in ("assistant", None):
        return None
    if message.model == _NOT_A_CALL or read.is_api_error_message:
        return None
    event = _call(read, message, message.usage, place)
    if isinstance(read, _FullLine):
        _decorate(event, read)
    return event


def read_opening(line: bytes) -> tuple[datetime | None, str]:
    """Return the time and the working directory that a line names, for the lines that open a file."""
    try:
        opening = _decode_opening(line)
    except UNREADABLE:
        return None, ""
    return opening.timestamp, opening.cwd or ""


def _decode(line: bytes) -> _CallLine:
    try:
        return _decode_full(line)
    except msgspec.ValidationError:
        # A decoration changed its type in some version: the call itself still counts.
        return _decode_call(line)


def _call(line: _CallLine, message: _Message, usage: _Usage, place: LogPlace) -> UsageEvent:
    # Copies in a forked session carry the fork's id in sessionId; newer versions keep the caller's beside it.
    session_id = line.request_session_id or line.session_id or ""
    split = usage.cache_creation or _CacheCreation()
    write_5m, write_1h = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
    output = usage.output_tokens or 0
    thinking = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0
    searches = usage.server_tool_use.web_search_requests if usage.server_tool_use else 0
    return UsageEvent(
        call_id=_identity(line, message, usage, session_id),
        source="cli",
        client=CLIENT,
        occurred_at=line.timestamp,
        message_id=_cut(message.id),
        request_id=_cut(line.request_id),
        session_id=_cut(session_id),
        session_started_at=place.session_started_at,
        project=_cut(place.project, _LONG_TEXT),
        is_sidechain=bool(line.is_sidechain),
        provider=provider_of(message.model or ""),
        model=_cut(message.model),
        status="ok",
        stop_reason=_cut(message.stop_reason),
        service_tier=_cut(usage.service_tier),
        speed=_cut(usage.speed),
        inference_geo=_known(usage.inference_geo),
        input_tokens=usage.input_tokens or 0,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        # Some versions write only the flat total, others only the split, and server tools can make the
        # total the larger one: the total is sent in full, and the server prices what the split lacks.
        cache_write_tokens=max(usage.cache_creation_input_tokens or 0, write_5m + write_1h),
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
        reasoning_tokens=min(thinking or 0, output),
        web_search_requests=searches or 0,
    )


def _decorate(event: UsageEvent, line: _FullLine) -> None:
    event.agent = _cut(line.attribution_agent or line.agent_id)
    event.effort = _cut(line.effort)
    # Outside a repository, and on a detached head, the log says HEAD: that names no branch.
    event.git_branch = "" if line.git_branch == "HEAD" else _cut(line.git_branch, _LONG_TEXT)
    event.prompt_id = _cut(line.prompt_id)
    if not event.stop_reason and _tells_the_end(line.version or ""):
        event.status = "aborted"
    if line.entrypoint:
        event.tags = {"entrypoint": _cut(line.entrypoint)}
    if line.cost_usd is not None and line.cost_usd.is_finite() and 0 < line.cost_usd < 10**9:
        event.reported_cost_usd = usd_text(nano_usd(str(line.cost_usd)))


def _identity(line: _CallLine, message: _Message, usage: _Usage, session_id: str) -> str:
    call_id = call_id_for(
        request_id=line.request_id or "", message_id=message.id or "", session_id=session_id
    )
    if not call_id and line.uuid:
        # No id from any provider: the line's own id is kept by copies of the line.
        return derived_call_id(CLIENT, line.uuid)
    if not call_id:
        vector = (usage.input_tokens or 0, usage.output_tokens or 0, usage.cache_read_input_tokens or 0)
        return derived_call_id(CLIENT, session_id, line.timestamp.isoformat(), message.model or "", *vector)
    return fitting(call_id, anthropic=True)


def _tells_the_end(version: str) -> bool:
    """Tell whether a version logs an answer when it has ended, or its start if it was interrupted.

    Older ones log each part while the answer runs: most of the lines, or all, have no reason to stop.
    """
    numbers = _VERSION.match(version)
    return numbers is not None and tuple(map(int, numbers.groups())) >= _TELLS_THE_END


def _known(geography: str | None) -> str:
    return "" if geography == "not_available" else _cut(geography)


def _cut(text: str | None, length: int = _TEXT) -> str:
    return (text or "")[:length]
