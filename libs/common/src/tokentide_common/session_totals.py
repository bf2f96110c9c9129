"""`SessionTotals`: what a client's own log says a session has used so far, and the facts that it amounts to.

Running totals, not calls: they never add to usage. Calls are held against them to find what is missing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec

from tokentide_common.activity import ActivityFact, Amount
from tokentide_common.errors import InvalidEvent
from tokentide_common.events import EARLIEST, MAX_CLOCK_AHEAD, Id, Text, Utc
from tokentide_common.identity import derived_call_id

MAX_MODELS: Final = 64
FORKED_FROM: Final = "forked_from"
"""The tag of a fact by which coverage knows that a session's totals began with another session's."""

# A session of years stays below; sums of thousands of them stay in Int64.
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**13)]


class ModelTotals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a session used of one model. Buckets as in a usage event, cache writes of both kinds together."""

    input_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    output_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    cost_usd: Amount = "0"


class SessionTotals(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """The totals of one session at one moment."""

    session_id: Id
    at: Utc
    """The time of the last call that the log names before the totals, which have no time of their own."""
    models: Annotated[dict[Id, ModelTotals], msgspec.Meta(max_length=MAX_MODELS)]
    started_at: Utc | None = None
    """When the client began to count. Totals of one session with another start add up; with the same
    start the highest counts."""
    forked_from: Text = ""
    """The session whose copied calls open the log: the totals go on from those of that session."""
    client: Text = ""
    project: Text = ""


_encoder: Final = msgspec.json.Encoder()
_edge_decoder: Final = msgspec.json.Decoder(SessionTotals)

# The name of each kind in a fact, and the field it is taken from.
_KINDS: Final = (
    ("input", "input_tokens"),
    ("cache_read", "cache_read_tokens"),
    ("cache_write", "cache_write_tokens"),
    ("output", "output_tokens"),
    ("reasoning", "reasoning_tokens"),
)


def encode_totals(totals: SessionTotals) -> bytes:
    """Return the totals as compact JSON, as they are in the body of a batch."""
    return _encoder.encode(totals)


def decode_totals(raw: bytes | msgspec.Raw) -> SessionTotals:
    """Decode totals at our own edge; raises `InvalidEvent`, whose detail never quotes a value."""
    try:
        return _edge_decoder.decode(raw)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidEvent(str(exc), code="invalid_event") from None


def check_totals(totals: SessionTotals, now: datetime) -> None:
    """Reject what types cannot: impossible times. Raises `InvalidEvent`."""
    for name, moment in (("at", totals.at), ("started_at", totals.started_at)):
        if moment is not None and not EARLIEST <= moment <= now + MAX_CLOCK_AHEAD:
            raise InvalidEvent(f"{name} is out of range", code="timestamp_out_of_range")


def facts_of(totals: SessionTotals) -> list[ActivityFact]:
    """Return the totals as points of cumulative series, one per model and kind; zeros say nothing."""
    return [
        _fact(totals, model, kind, value)
        for model, used in totals.models.items()
        for kind, value in _values(used)
        if float(value)
    ]


def _values(used: ModelTotals) -> list[tuple[str, str]]:
    """Return kind and value of each total; the cost's kind is empty."""
    return [*((kind, str(getattr(used, name))) for kind, name in _KINDS), ("", used.cost_usd)]


def _fact(totals: SessionTotals, model: str, kind: str, value: str) -> ActivityFact:
    began = totals.started_at.isoformat() if totals.started_at else ""
    return ActivityFact(
        # Neither machine nor value is a part: copies of a log, and every later total, meet in one series.
        series_id=derived_call_id("cli", totals.client, totals.session_id, began, model, kind),
        metric="session_tokens" if kind else "session_cost_usd",
        at=totals.at,
        value=value,
        source="cli",
        client=totals.client,
        session_id=totals.session_id,
        project=totals.project,
        tags={FORKED_FROM: totals.forked_from} if totals.forked_from else {},
        kind=kind,
        model=model,
    )
