"""A batch body becomes records for the topic and rejections by index: bytes, key and time in, values out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from tokentide_common.accounts import KeyRecord
from tokentide_common.activity import encode_fact
from tokentide_common.broker import Record
from tokentide_common.errors import InvalidEvent, InvalidRequest, TooLarge
from tokentide_common.events import EdgeEvent, Text, UsageEvent, check_event, decode_edge_event, encode_event
from tokentide_common.session_totals import SessionTotals, check_totals, decode_totals, facts_of
from tokentide_common.tag_bound import KeepTags, every_tag
from tokentide_ingest.stamp import defaults_of, stamp

MAX_EVENTS: Final = 1000
"""Also the most session totals of a batch."""
# No event within its fields' bounds is larger, even with every character escaped. Checked before decoding,
# since a map of a million tags is refused only once it has been built.
MAX_EVENT_BYTES: Final = 128 * 1024
# Bodies up to here are decoded in one pass; what a hostile one can make of that many bytes is harmless.
_ONE_PASS_BYTES: Final = 2 * 1024 * 1024
_MAX_DETAIL: Final = 300
# The proxy publishes by itself: no request can pass for what the proxy saw on the wire.
_SOURCES: Final = frozenset({"cli", "api"})

_Item = TypeVar("_Item")
_TOO_MANY: Final = f"array` of at most length {MAX_EVENTS}"
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who sends: `id` becomes the machine of events and keys that name none."""

    id: Text = ""
    name: Text = ""


class Rejection(msgspec.Struct, frozen=True):
    """Why one event, or the totals of one session, did not go through."""

    index: int
    code: str
    detail: str


class Batch(msgspec.Struct, frozen=True):
    """What became of a body: records for the topic with the index of each in the body, and the rest.

    `facts` are records for the topic of activity, several for the totals of each session.
    """

    records: list[Record]
    indices: list[int]
    rejected: list[Rejection]
    facts: list[Record] = []
    rejected_totals: list[Rejection] = []
    machine: Machine = Machine()


def read_batch(
    body: bytes | bytearray, key: KeyRecord, now: datetime, keep_tags: KeepTags = every_tag
) -> Batch:
    """Judge every event of a body on its own and stamp the good ones with what the key stands for.

    Raises `InvalidRequest` when the body as a whole is unreadable and `TooLarge` for too many events.
    """
    machine, items, totals = _open(body)
    defaults = defaults_of(key, machine_id=machine.id)
    batch = Batch([], [], [], machine=machine)
    for index, item in enumerate(totals):
        if item is msgspec.UNSET:
            break
        try:
            said = item if isinstance(item, SessionTotals) else _read_totals(item)
            check_totals(said, now)
        except InvalidEvent as error:
            batch.rejected_totals.append(_rejection(index, error))
            continue
        for fact in facts_of(said):
            stamp(fact, key, defaults)
            batch.facts.append(Record(fact.series_id.encode(), encode_fact(fact)))
    for index, item in enumerate(items):
        if item is msgspec.UNSET:
            break
        try:
            event = item if isinstance(item, UsageEvent) else _read_event(item)
            _judge(event, now)
        except InvalidEvent as error:
            batch.rejected.append(_rejection(index, error))
            continue
        if event.observed_at is None:
            event.observed_at = now
        stamp(event, key, defaults)
        event.tags = keep_tags(key.org_id, event.tags)
        batch.records.append(Record(event.call_id.encode(), encode_event(event)))
        batch.indices.append(index)
    return batch


def _judge(event: UsageEvent, now: datetime) -> None:
    check_event(event, now)
    if event.source not in _SOURCES:
        raise InvalidEvent("source can be cli or api on this route", code="source_not_allowed")
    if event.same_as:
        # Whoever could say so could make another person's call disappear.
        raise InvalidEvent("same_as is for our own use", code="invalid_event")


def _read_event(raw: msgspec.Raw) -> UsageEvent:
    return _read(raw, decode_edge_event)


def _read_totals(raw: msgspec.Raw) -> SessionTotals:
    return _read(raw, decode_totals)


def _read(raw: msgspec.Raw, decode: Callable[[msgspec.Raw], _Item]) -> _Item:
    if memoryview(raw).nbytes > MAX_EVENT_BYTES:
        raise InvalidEvent(f"the event is over {MAX_EVENT_BYTES} bytes", code="event_too_large")
    try:
        return decode(raw)
    except RecursionError:
        raise InvalidEvent("the event is nested too deeply") from None


def _rejection(index: int, error: InvalidEvent) -> Rejection:
    return Rejection(index, error.stable_code, error.detail[:_MAX_DETAIL])


def _open(body: bytes | bytearray) -> tuple[Machine, tuple[Any, ...], tuple[Any, ...]]:
    """Return the machine and two times 1000 slots, for events and for totals.

    They are decoded if all are well-formed, else raw; UNSET after the last.
    """
    if len(body) <= _ONE_PASS_BYTES:
        # One bad event fails the whole pass; the second pass finds out which one.
        with contextlib.suppress(*_DECODE_ERRORS):
            return _parts(_whole_decoder, body)
    try:
        return _parts(_raw_decoder, body)
    except _DECODE_ERRORS as exc:
        reason = str(exc)
        if _TOO_MANY in reason:
            raise TooLarge(
                f"a batch has at most {MAX_EVENTS} events and {MAX_EVENTS} totals", code="too_many_events"
            ) from None
        if isinstance(exc, msgspec.ValidationError):
            raise InvalidRequest(f"not a batch: {reason[:_MAX_DETAIL]}", code="malformed_body") from None
        raise InvalidRequest("the body is not JSON", code="malformed_body") from None


def _parts(
    decoder: msgspec.json.Decoder[Any], body: bytes | bytearray
) -> tuple[Machine, tuple[Any, ...], tuple[Any, ...]]:
    decoded = decoder.decode(body)
    return (
        decoded.machine,
        msgspec.structs.astuple(decoded.events),
        msgspec.structs.astuple(decoded.totals) if decoded.totals else (),
    )


def _body_decoder(event: type, totals: type) -> msgspec.json.Decoder[Any]:
    """Return a decoder for a body whose events are decoded as `event`; slots without an event are UNSET.

    A list with a maximum length is measured only when all of it has been built, which for ten megabytes of
    `0,0,0…` takes half a gigabyte. A struct laid out as an array stops at the first item too many.
    """
    fields: list[tuple[str, Any, Any]] = [
        ("events", _slots("Events", event), msgspec.NODEFAULT),
        ("machine", Machine, Machine()),
        ("totals", _slots("Totals", totals) | None, None),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Body", fields, forbid_unknown_fields=True))


def _slots(name: str, item: type) -> type:
    slots = [(f"{name.lower()}_{index}", item, msgspec.UNSET) for index in range(MAX_EVENTS)]
    return msgspec.defstruct(name, slots, array_like=True, forbid_unknown_fields=True)


_whole_decoder = _body_decoder(EdgeEvent, SessionTotals)
_raw_decoder = _body_decoder(msgspec.Raw, msgspec.Raw)
