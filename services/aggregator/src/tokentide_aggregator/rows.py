"""Ledger rows: how a call's state becomes a row, and a row becomes the state again."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
import xxhash

from tokentide_common.events import Status, UsageEvent, encode_event
from tokentide_common.merge import SPEAKERS, State, merged, nano_usd, sources, speaker, usd_text


class LedgerRow(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One row of `ledger` but for its sign; names, order and defaults are the table's."""

    call_id: str
    occurred_at: datetime
    observed_at: datetime
    message_id: str = ""
    request_id: str = ""
    same_as: str = ""
    client: str = ""
    org_id: str = ""
    user_id: str = ""
    user_email: str = ""
    account_id: str = ""
    device_id: str = ""
    machine_id: str = ""
    key_id: str = ""
    session_id: str = ""
    session_started_at: datetime | None = None
    project: str = ""
    git_branch: str = ""
    team: str = ""
    department: str = ""
    cost_center: str = ""
    identity_provider: str = ""
    agent: str = ""
    is_sidechain: bool = False
    prompt_id: str = ""
    tags: dict[str, str] = {}
    provider: str = ""
    model: str = ""
    status: Status = "ok"
    """Of the literal type, so that one read back is left out where it is the default: one canonical form."""
    http_status: int = 0
    error_type: str = ""
    stop_reason: str = ""
    service_tier: str = ""
    speed: str = ""
    effort: str = ""
    inference_geo: str = ""
    query_source: str = ""
    duration_ms: int = 0
    ttft_ms: int = 0
    retry_attempt: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_split_known: bool = True
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_search_requests: int = 0
    sources: list[str] = []
    token_source: str = ""
    cost_nano: int = 0
    reported_cost_nano: int = 0
    unpriced: bool = False
    price_version: str = ""
    observations: str = ""
    version: int = 0
    digest: int = 0
    """Of the row without it, where a single plain observation made it: tells the row without reading it."""


COLUMNS: Final = LedgerRow.__struct_fields__
_SHARED: Final = tuple(
    name for name in UsageEvent.__struct_fields__ if name in COLUMNS and name != "cache_write_tokens"
)
_row_encoder = msgspec.json.Encoder()
_row_decoder = msgspec.json.Decoder(LedgerRow)
_observations_decoder = msgspec.json.Decoder(list[UsageEvent])
# A call seen by one source is its event plus what the aggregator adds: no second struct, no copy.
_TAIL: Final = {
    source: f',"sources":["{source}"],"token_source":"{source}","version":'.encode()
    for source in {name.split("-")[0] for name in SPEAKERS} - {"link"}
}


def encode_row(row: LedgerRow) -> bytes:
    """Return the +1 row as JSON: the one canonical form, from memory and from the table alike."""
    return _row_encoder.encode(row)


def decode_row(raw: bytes) -> LedgerRow:
    """Read a row back, from the table or from memory."""
    return _row_decoder.decode(raw)


def taken_back(row: LedgerRow) -> bytes:
    """Return the -1 row: an exact copy of its +1 row but for the sign."""
    return encode_row(row)[:-1] + b',"sign":-1}'


def is_plain(event: UsageEvent) -> bool:
    """Tell whether a single observation is its own record: nothing to split, clamp or keep beside it.

    What was only concluded is no call at all: its record says so, which the observation does not.
    """
    return (
        event.source != "link"
        and event.cache_write_tokens == event.cache_write_5m_tokens + event.cache_write_1h_tokens
        and event.reasoning_tokens <= event.output_tokens
    )


def plain_row(event: UsageEvent, cost_nano: int | None, price_version: str, version: int) -> bytes:
    """Return the +1 row of a call of which all that is known amounts to one plain observation."""
    return plain_row_of(event, encode_event(event), cost_nano, price_version, version)


def plain_row_of(
    event: UsageEvent, encoded: bytes, cost_nano: int | None, price_version: str, version: int
) -> bytes:
    """Return the same for an event that is encoded already."""
    money = b',"unpriced":true' if cost_nano is None else b',"cost_nano":%d' % cost_nano
    if event.reported_cost_usd:
        money += b',"reported_cost_nano":%d' % nano_usd(event.reported_cost_usd)
    tail = _TAIL[event.source]
    row = b'%b%b%d%b,"price_version":"%b"' % (encoded[:-1], tail, version, money, price_version.encode())
    # Not cryptographic: whoever could craft a call whose row looks like another one of the same call could
    # as well send only one of them. Zero says that there is none.
    return b'%b,"digest":%d}' % (row, xxhash.xxh3_64_intdigest(row) or 1)


def row_of_state(
    state: State,
    record: UsageEvent,
    *,
    token_source: str,
    cost_nano: int | None,
    price_version: str,
    version: int,
) -> LedgerRow:
    """Return the +1 row of a state; `record` and `token_source` are what `merged(state)` says."""
    fields = {name: getattr(record, name) for name in _SHARED}
    only_total = all(e.cache_write_5m_tokens + e.cache_write_1h_tokens == 0 for e in state.values())
    row = LedgerRow(
        **fields,
        cache_split_known=not (only_total and record.cache_write_tokens),
        sources=sources(state),
        token_source=token_source,
        cost_nano=cost_nano or 0,
        reported_cost_nano=nano_usd(record.reported_cost_usd),
        unpriced=cost_nano is None,
        price_version=price_version,
        version=version,
    )
    if len(state) > 1 or not row.sources or state_of_row(row) != state:
        row.observations = _row_encoder.encode(list(state.values())).decode()
    return row


def state_of_row(row: LedgerRow) -> State:
    """Return the state that a row was made of."""
    if row.observations:
        return {speaker(event): event for event in _observations_decoder.decode(row.observations)}
    fields = {name: getattr(row, name) for name in _SHARED}
    written = row.cache_write_5m_tokens + row.cache_write_1h_tokens
    if not row.cache_split_known:
        fields["cache_write_5m_tokens"] = 0
    fields |= {"source": row.sources[0], "cache_write_tokens": written}
    event = UsageEvent(**fields, reported_cost_usd=usd_text(row.reported_cost_nano))
    return {speaker(event): event}


def record_of_row(row: LedgerRow) -> UsageEvent:
    """Return the merged record that a row holds, without its provenance."""
    return merged(state_of_row(row))[0]
