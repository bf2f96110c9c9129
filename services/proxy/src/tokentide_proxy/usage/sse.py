"""Server-sent events out of bytes that are cut anywhere.

An event ends with an empty line; lines end with LF, CR or CRLF. What is left of an event that is not yet
complete is held up to a bound; of an event beyond it only an excerpt is kept.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from typing import Final

from tokentide_proxy.usage.excerpt import Excerpt, Wanted

MAX_HELD_BYTES: Final = 256 * 1024
"""Ordinary events have some hundred bytes; the final ones of the Responses API repeat the whole answer."""
END_OF_EVENT: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
LONGEST_END: Final = 4
_NOTHING: Final = ()
_USUAL_END: Final = b"\n\n"
_WHOLE: Final = (_USUAL_END, b"\r\n\r\n")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventSplitter:
    """Takes the bytes of an event stream, gives the data of the events that contain one of the markers.

    The first event with data comes in any case: it has the ids, whatever its kind.
    """

    def __init__(self, markers: tuple[bytes, ...], wanted: Wanted) -> None:
        self._markers = markers
        self._wanted = wanted
        self._held = bytearray()
        self._excerpt: Excerpt | None = None
        """Of the event in transit, once it is too large to be held; `_held` is then its last few bytes."""
        self._first = True

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take the next bytes; return the JSON of the interesting events that end in them."""
        if self._held or self._first or not data.endswith(_WHOLE):
            return self._split(data)
        for marker in self._markers:
            if marker in data:
                return self._split(data)
        return _NOTHING  # the common case: whole events, and nothing to read in them

    def end(self) -> Sequence[bytes]:
        """The body is complete: return the last event, should its empty line be missing."""
        left = bytes(self._held)
        self._held.clear()
        return self._event(left) if left else _NOTHING

    def _split(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        held = self._held
        searched = max(0, len(held) - LONGEST_END)
        held += data
        if b"\r" in held:
            start = 0
            while (end := END_OF_EVENT.search(held, max(start, searched))) is not None:
                found += self._event(bytes(held[start : end.start()]))
                start = end.end()
            del held[:start]
        elif held.find(_USUAL_END, searched) >= 0:
            whole = bytes(held)
            held[:] = whole[whole.rfind(_USUAL_END) + len(_USUAL_END) :]
            for event in self._usual(whole[: len(whole) - len(held)]):
                found += self._event(event)
        if self._excerpt is not None or len(held) > MAX_HELD_BYTES:
            self._overflow()
        return found

    def _usual(self, whole: bytes) -> Iterator[bytes]:
        """Give the events to be looked at, of whole ones whose lines end with LF alone.

        Markers are looked for in all of them at once: from event to event takes five times as long.
        """
        at = 0
        while at < len(whole) and (self._first or self._excerpt is not None):
            end = whole.find(_USUAL_END, at)
            yield whole[at:end]
            at = end + len(_USUAL_END)
        places = {marker: whole.find(marker, at) for marker in self._markers}
        while places := {marker: place for marker, place in places.items() if place >= 0}:
            place = min(places.values())
            before = whole.rfind(_USUAL_END, at, place)
            start = at if before < 0 else before + len(_USUAL_END)
            end = whole.find(_USUAL_END, place)
            yield whole[start:end]
            at = end + len(_USUAL_END)
            # Each marker is sought once along the way, however many events have another one.
            places = {
                marker: whole.find(marker, at) if place < at else place for marker, place in places.items()
            }

    def _event(self, event: bytes) -> list[bytes]:
        excerpt, self._excerpt = self._excerpt, None
        if excerpt is not None:
            excerpt.feed(event)
            return excerpt.take()
        if self._first:
            event = event.removeprefix(BOM_UTF8)  # which may stand before the first line
        elif not self._marked(event):
            return []
        data = data_of(event)
        if not data:
            return []
        self._first = False
        return [data]

    def _overflow(self) -> None:
        """Go on with an excerpt. The last bytes are held back: they may be half of the event's end."""
        if self._excerpt is None:
            self._excerpt = Excerpt(self._wanted)
        self._excerpt.feed(bytes(self._held[:-LONGEST_END]))
        del self._held[:-LONGEST_END]

    def _marked(self, data: bytes) -> bool:
        for marker in self._markers:  # noqa: SIM110 - runs for every event; `any` takes three times as long
            if marker in data:
                return True
        return False


def data_of(event: bytes) -> bytes:
    """Return the data of an event: its `data` lines, joined; comments and other fields are none of it."""
    every = _LINE_END.split(event) if b"\r" in event else event.split(b"\n")
    lines = [line for line in every if line.startswith(b"data:")]
    if len(lines) == 1:
        return lines[0][5:].removeprefix(b" ")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
