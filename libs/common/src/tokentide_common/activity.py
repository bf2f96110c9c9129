"""`ActivityFact`: what was done besides calling a model, and its wire format on `tokentide.activity`.

A fact is a point of a series that adds up. It never carries or changes a call: tokens and cost that only a
metric knows are a series of their own (`client_tokens`, `client_cost_usd`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from tokentide_common.errors import InvalidEvent
from tokentide_common.events import Id, LongText, Tags, Text, Utc

ActivityMetric = Literal[
    "sessions",
    "lines_of_code",
    "commits",
    "pull_requests",
    "active_time_s",
    "edit_decisions",
    "tool_decisions",
    "tool_results",
    "prompts",
    "prompt_characters",
    "compactions",
    "client_tokens",
    "client_cost_usd",
    "session_tokens",
    "session_cost_usd",
]
"""What is counted. `client_…`: a client's own metrics of tokens and cost. `session_…`: the running totals
that a client writes into its session log. Neither ever adds to calls."""

# Whole and nano parts, no sign, no exponent: sums of it are exact, and stay so when a part is taken back.
Amount = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}(\.[0-9]{1,9})?$")]


class ActivityFact(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One point of a series.

    `series_id` names what is summed: for a delta point or an event the point itself (stream, start and time:
    every repeat is the same fact), for a cumulative one its stream and start, so that all points of one run
    of a counter meet. Inside a series the highest value known by a time counts, whatever the order: what a
    point adds is the difference to the highest before it.
    """

    series_id: Id
    metric: ActivityMetric
    at: Utc
    """When the point was taken."""
    value: Amount
    source: Literal["otlp", "cli", "link"]
    """`link` counted nothing: the aggregator says with it whose the series is."""
    client: Text = ""
    org_id: Text = ""
    user_id: Text = ""
    user_email: Text = ""
    account_id: Text = ""
    device_id: Text = ""
    machine_id: Text = ""
    key_id: Text = ""
    session_id: Text = ""
    project: LongText = ""
    team: Text = ""
    department: Text = ""
    cost_center: Text = ""
    tags: Tags = {}
    # what kind: each is empty where the metric does not have it
    kind: Text = ""
    """`added`/`removed` lines, `user`/`cli` time, `fresh`/`resume`/`continue` sessions, `auto`/`manual`
    compactions, `input`/`output`/`cache_read`/`cache_write` tokens; `prompt`: input with what came from the
    cache. Two kinds of tokens are a part of another: `reasoning` of `output`, `prompt_cached` of `prompt`."""
    model: Text = ""
    tool: Text = ""
    decision: Text = ""
    """`accept` or `reject`; of a tool's result `ok` or `error`."""
    decided_by: Text = ""
    language: Text = ""
    query_source: Text = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ActivityFact)


def encode_fact(fact: ActivityFact) -> bytes:
    """Return the fact as compact JSON, defaults left out: the value of a record on `tokentide.activity`."""
    return _encoder.encode(fact)


def decode_fact(raw: bytes) -> ActivityFact:
    """Decode a record's value; raises `InvalidEvent`, whose detail never quotes a value."""
    try:
        return _decoder.decode(raw)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not "from" the error: it may quote a value, and a traceback is logged.
        raise InvalidEvent("not an activity fact", code="unreadable_record") from None
