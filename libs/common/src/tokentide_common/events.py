"""`UsageEvent`: what one source says about one LLM call, and its wire format.

The one noun from the door to the table: sources make it, topics carry it, the aggregator joins it.
Its field names are the names of the columns, of the query parameters and of the JSON that users see.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec

from tokentide_common.errors import InvalidEvent

Source = Literal["cli", "otlp", "proxy", "api", "link"]
"""Who saw the call. `link` saw nothing: the aggregator says with it what two observations have in common."""
Status = Literal["ok", "error", "aborted"]

Text = Annotated[str, msgspec.Meta(max_length=256)]
LongText = Annotated[str, msgspec.Meta(max_length=1024)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
# Beyond any call there is; the bounds keep the cost of a call, and the sum of thousands of them, in Int64.
MAX_COUNT: Final = 2**31
MAX_RETRIES: Final = 9999
MAX_SEARCHES: Final = 2**20
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Utc = Annotated[datetime, msgspec.Meta(tz=True)]
# Decimal digits, no sign, no exponent: a client's own figure, kept exactly as money.
Usd = Annotated[str, msgspec.Meta(pattern=r"^$|^[0-9]{1,6}(\.[0-9]{1,18})?$")]
Tags = Annotated[
    dict[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], Text], msgspec.Meta(max_length=32)
]

EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
MAX_CLOCK_AHEAD: Final = timedelta(days=2)


class UsageEvent(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """An observation of one LLM call by one source.

    Empty strings and zeros mean "this source does not say": they never beat a known value.
    Tokens are disjoint buckets: `input_tokens` excludes everything cached, `output_tokens` includes
    `reasoning_tokens`. Times are aware UTC, durations milliseconds.
    """

    # identity
    call_id: Id
    """The id by which sources recognise the call; see `identity.py`."""
    source: Source
    occurred_at: Utc
    """Start of the call, or the earliest time known of it."""
    observed_at: Utc | None = None
    """When the source saw the call; the first door stamps it where the source does not."""
    message_id: Text = ""
    request_id: Text = ""
    same_as: Text = ""
    """This call is the call with that id: it is counted there, and not under its own id."""
    client: Text = ""
    # scope
    org_id: Text = ""
    """Stamped from the key at the door, never taken from a body."""
    user_id: Text = ""
    user_email: Text = ""
    account_id: Text = ""
    """The provider's account (a subscription or an API organisation's member), as the client names it."""
    device_id: Text = ""
    """The client's own random id of an installation."""
    machine_id: Text = ""
    key_id: Text = ""
    session_id: Text = ""
    session_started_at: Utc | None = None
    """First moment of the session's record. Copies of a call in forked sessions are told apart by it:
    the call belongs to the session that began first."""
    project: LongText = ""
    git_branch: LongText = ""
    team: Text = ""
    department: Text = ""
    cost_center: Text = ""
    identity_provider: Text = ""
    agent: Text = ""
    is_sidechain: bool = False
    prompt_id: Text = ""
    tags: Tags = {}
    # call
    provider: Text = ""
    model: Text = ""
    status: Status = "ok"
    http_status: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    error_type: Text = ""
    stop_reason: Text = ""
    service_tier: Text = ""
    speed: Text = ""
    effort: Text = ""
    inference_geo: Text = ""
    query_source: Text = ""
    duration_ms: Millis = 0
    ttft_ms: Millis = 0
    retry_attempt: Annotated[int, msgspec.Meta(ge=0, le=MAX_RETRIES)] = 0
    """How often the client had tried before. 0 is as good as unknown: a client that tries again outside of
    its SDK sends no count, or always 0."""
    # tokens
    input_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    """All cache writes, from a source that knows only their total. Where the split is known too,
    what the total exceeds it by is priced as 5-minute writes."""
    cache_write_5m_tokens: Count = 0
    cache_write_1h_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    web_search_requests: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEARCHES)] = 0
    # money
    reported_cost_usd: Usd = ""


class EdgeEvent(UsageEvent, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """A `UsageEvent` at our own edge, where an unknown field is a mistake of the sender.

    On a topic unknown fields are ignored instead, so that versions can be mixed.
    """


_encoder = msgspec.json.Encoder()
_edge_decoder = msgspec.json.Decoder(EdgeEvent)
_wire_decoder = msgspec.json.Decoder(UsageEvent)


def encode_event(event: UsageEvent) -> bytes:
    """Return the event as compact JSON, defaults left out: the value of a record on `tokentide.usage`."""
    return _encoder.encode(event)


def decode_edge_event(raw: bytes | msgspec.Raw) -> UsageEvent:
    """Decode one event at our own edge, where an unknown field is a mistake of the sender.

    Raises `InvalidEvent` whose detail names the field but never quotes its value.
    """
    try:
        return _edge_decoder.decode(raw)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidEvent(_reason(exc), code="invalid_event") from None


def decode_wire_event(raw: bytes) -> UsageEvent:
    """Decode one event from a topic; raises `InvalidEvent`."""
    try:
        return _wire_decoder.decode(raw)
    except RecursionError:
        raise InvalidEvent("the record is nested too deeply", code="unreadable_record") from None
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidEvent(_reason(exc), code="unreadable_record") from None


def check_event(event: UsageEvent, now: datetime) -> None:
    """Reject what types cannot: impossible times and token parts. Raises `InvalidEvent`."""
    if not EARLIEST <= event.occurred_at <= now + MAX_CLOCK_AHEAD:
        raise InvalidEvent(
            f"occurred_at is outside {EARLIEST:%Y-%m-%d} … now + {MAX_CLOCK_AHEAD.days} days",
            code="timestamp_out_of_range",
        )
    if event.reasoning_tokens > event.output_tokens:
        raise InvalidEvent("reasoning_tokens is a part of output_tokens and exceeds it", code="invalid_event")
    for name, moment in (
        ("observed_at", event.observed_at),
        ("session_started_at", event.session_started_at),
    ):
        if moment is not None and not EARLIEST <= moment <= now + MAX_CLOCK_AHEAD:
            raise InvalidEvent(f"{name} is out of range", code="timestamp_out_of_range")
    if event.cache_write_5m_tokens + event.cache_write_1h_tokens > MAX_COUNT:
        raise InvalidEvent("the cache writes together are out of range", code="invalid_event")


def _reason(exc: Exception) -> str:
    """msgspec's message names type and path; an invalid enum value is the one content it quotes."""
    text = str(exc)
    return text if "Invalid enum value" not in text else "Invalid enum value" + text[text.rfind(" - at") :]
