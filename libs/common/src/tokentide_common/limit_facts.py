"""`LimitFact`: what a provider says of one of its limits, and its wire format on `tokentide.limits`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from tokentide_common.errors import InvalidEvent
from tokentide_common.events import Text, Utc

Kind = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,64}$")]
# Open, so that a reader of today can read who speaks tomorrow.
Source = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,32}$")]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# What part of the limit is used: decimal digits, as the provider wrote it. Over 1: more than all of it.
Utilization = Annotated[str, msgspec.Meta(pattern=r"^$|^[0-9]{1,6}(\.[0-9]{1,18})?$")]


class LimitFact(msgspec.Struct, omit_defaults=True, kw_only=True, frozen=True, gc=False):
    """The state of one limit of one account, as an answer told it: the latest one counts.

    A limit is `org_id`, `provider`, `account_id` (`key_id` where no account is known), `model` and `kind`.
    Models of one family may share one: then the latest of theirs counts.
    """

    provider: Text
    kind: Kind
    """`requests`, `tokens`, `input_tokens`, `output_tokens`, `priority_input_tokens`, …: per minute or as the
    provider has it. `unified`, `unified_5h`, `unified_7d`, `unified_overage`, …, `codex_primary`,
    `codex_secondary`: windows of a subscription. `retry`: the provider asks to wait until `resets_at`. New
    words may appear."""
    observed_at: Utc
    source: Source = "proxy"
    """`proxy`: read from an answer's headers. `cli`: told by a client, which read it from them."""
    org_id: Text = ""
    account_id: Text = ""
    """The provider's id of the account, as answers name it."""
    key_id: Text = ""
    """Our key, under which it was seen."""
    model: Text = ""
    """The model that answered, of limits that models have for themselves; not of a subscription's windows."""
    limit: Amount | None = None
    remaining: Amount | None = None
    utilization: Utilization = ""
    window_minutes: Amount | None = None
    """How long a window lasts, where the provider says so."""
    resets_at: Utc | None = None
    """When it is whole again; of a window: when it ends."""
    status: Text = ""
    """The provider's word: `allowed`, `allowed_warning`, `rejected`, …"""


_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(LimitFact)


def key_of(fact: LimitFact) -> bytes:
    """Return the key of a fact's record: what is told of one account stays in order."""
    return f"{fact.org_id}:{fact.provider}:{fact.account_id or fact.key_id}".encode()


def gauge_of(fact: LimitFact) -> tuple[str, str, str, str, str]:
    """Return which limit a fact is about: organisation, provider, account, model and kind."""
    return fact.org_id, fact.provider, fact.account_id or fact.key_id, fact.model, fact.kind


def sortable(fact: LimitFact) -> str:
    """Return a fact as text that sorts by when it was observed: of two on one limit the greater counts."""
    micros = (fact.observed_at - _EPOCH) // timedelta(microseconds=1)
    return f"{micros:020d} {encode_limit_fact(fact).decode()}"


def of_sortable(text: str) -> LimitFact:
    """Return the fact of a sortable text."""
    return decode_limit_fact(text.partition(" ")[2].encode())


def encode_limit_fact(fact: LimitFact) -> bytes:
    """Return the fact as compact JSON, defaults left out: the value of a record on `tokentide.limits`."""
    return _encoder.encode(fact)


def decode_limit_fact(raw: bytes) -> LimitFact:
    """Decode a record's value; raises `InvalidEvent`, whose detail never quotes a value."""
    try:
        return _decoder.decode(raw)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not "from" the error: it may quote a value, and a traceback is logged.
        raise InvalidEvent("not a limit fact", code="unreadable_record") from None


def latest_limits_sql() -> str:
    """Return the SELECT of an organisation's latest `fact` on each limit, as `sortable` text, newest first.

    Parameters: `org_id` and `limit`.
    """
    return """
SELECT max(latest) AS fact FROM limits WHERE org_id = {org_id:String}
GROUP BY provider, account, model, kind ORDER BY fact DESC LIMIT {limit:UInt64}
"""
