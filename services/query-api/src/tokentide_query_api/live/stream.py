"""`GET /api/v1/live`: server-sent events of what is counted, resumable, for whoever may see it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from tokentide_common.errors import RateLimited, TokentideError
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.live.changes import change_seen
from tokentide_query_api.live.event_ids import EventIds
from tokentide_query_api.live.hub import Entry, LiveHub
from tokentide_query_api.openapi import stream_operation
from tokentide_query_api.scope import Sight
from tokentide_query_api.visibility import sight_of

ROUTE: Final = "/api/v1/live"
_BEAT_S: Final = 15.0
_SIGHT_S: Final = 2.0
_STREAMS_OF_ORG: Final = 200
_RETRY_S: Final = 5
_HEADERS: Final = {
    "cache-control": "private, no-store",
    "vary": "authorization, x-tokentide-key",
    "x-accel-buffering": "no",  # a proxy that collects answers would hold it back
}


def live_handlers(desk: Callable[[], Desk], hub: LiveHub) -> list[HTTPRouteHandler]:
    """Return the handler of the live stream."""
    open_streams: Counter[str] = Counter()

    @get(
        ROUTE,
        operation_id="live",
        summary="What is counted, as it is counted",
        operation_class=stream_operation((), ["text/event-stream"], "Events, until the caller leaves."),
    )
    async def live(request: Request[Any, Any, Any]) -> Stream:
        principal = await desk().admit_reader(request)
        if open_streams[principal.org_id] >= _STREAMS_OF_ORG:
            raise RateLimited(
                "the organisation has too many streams open", code="too_many_streams", retry_after_s=_RETRY_S
            )
        await hub.open()

        async def admitted_again() -> Sight:
            again = await desk().access.admit(request.headers)
            again.require_scope("read")
            return sight_of(again)

        ids = EventIds(desk().safe, principal.org_id)
        sight = FreshSight(admitted_again)

        async def counted() -> AsyncIterator[bytes]:
            open_streams[principal.org_id] += 1
            try:
                async for event in events(hub, ids, request.headers.get("last-event-id", ""), sight.now):
                    yield event
            finally:
                open_streams[principal.org_id] -= 1

        return Stream(counted(), media_type="text/event-stream", headers=_HEADERS)

    return [live]


class FreshSight:
    """What a caller may see: asked for again after two seconds, however much there is to tell."""

    def __init__(
        self, ask: Callable[[], Awaitable[Sight]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._known: tuple[float, Sight] | None = None

    async def now(self) -> Sight:
        """Return it; raises what refuses the caller."""
        asked_at = self._clock()
        if self._known is None or asked_at - self._known[0] >= _SIGHT_S:
            self._known = asked_at, await self._ask()
        return self._known[1]


async def events(
    hub: LiveHub,
    ids: EventIds,
    last_id: str,
    sight_now: Callable[[], Awaitable[Sight]],
    beat_s: float = _BEAT_S,
) -> AsyncIterator[bytes]:
    """Yield the events of a stream until its caller may not see them, falls behind, or the service ends.

    `hello` begins a stream anew and `reset` says that some was missed: whoever gets one asks for what is
    shown, and goes on with what `change` adds to it.
    """
    place = hub.place_of(ids.opened(last_id)) if last_id else None
    if place is None:
        place = hub.newest
        yield _event("reset" if last_id else "hello", ids.sealed(hub.newest_id), b"{}")
    told_at = time.monotonic()
    while not hub.closed:
        # A beat is due by the clock: what others do neither delays nor hastens it.
        entries = await hub.after(place, wait_s=max(0.0, told_at + beat_s - time.monotonic()))
        if entries is None:
            # Behind by more than the ring holds. The connection ends instead of being fed from a buffer;
            # whoever comes again hears that some was missed.
            return
        try:
            for entry in entries:
                place = entry.offset
                # Asked before each: a reader may take its time over what came at once.
                if (told := _told(entry, await sight_now(), ids)) is not None:
                    yield told
                    told_at = time.monotonic()
            if time.monotonic() - told_at >= beat_s:
                beat = _beat(ids.sealed(entries[-1].event_id if entries else hub.newest_id))
                await sight_now()  # only now: what comes meanwhile was not told
                yield beat
                told_at = time.monotonic()
        except TokentideError:
            return  # the key was revoked or the session has ended


def _told(entry: Entry, sight: Sight, ids: EventIds) -> bytes | None:
    if entry.changes is None:
        return _event("reset", ids.sealed(entry.event_id), b"{}")
    change = change_seen(entry.changes, sight)
    return None if change is None else _event("change", ids.sealed(entry.event_id), change)


def _event(name: str, event_id: str, data: bytes) -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"


def _beat(event_id: str) -> bytes:
    """A comment; with it the place moves on although nothing was for this caller."""
    return f": still here\nid: {event_id}\n\n".encode() if event_id else b": still here\n\n"
