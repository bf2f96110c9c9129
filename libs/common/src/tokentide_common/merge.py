"""The join of observations into one call: commutative, associative, idempotent.

A call's state is a map from speaker to the join of everything that this speaker said.
A speaker is a source, with aborted observations apart (`proxy` and `proxy-aborted` are two speakers).
Inside a speaker each field, or group of fields that must stay together, is a lattice of its own;
the map is joined pointwise; so the whole is a lattice whatever the order, the repeats and the lateness.
`merged()` reads one record out of a state: for each field the first speaker in order of precedence
that knows it. It is a pure function of the state, so it needs no laws of its own.

Empty strings and zeros mean "not known" and never beat a known value.

The speaker `link` saw nothing: it says who made a call, or which other call it is, as concluded from what
others saw. So it fills in names and counts for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from operator import attrgetter
from typing import Any, Final

import msgspec

from tokentide_common.events import Status, UsageEvent
from tokentide_common.identity import alias_and_call

State = Mapping[str, UsageEvent]
"""What is known of one call: speaker → the join of its observations, in order of precedence."""

# A finished observation of the proxy saw the provider's last word; telemetry has it from the client, and what
# is concluded for a call comes from the telemetry of its neighbours; a log may hold placeholders; an aborted
# observation is a lower bound.
SPEAKERS: Final = (
    *("proxy", "otlp", "link", "api", "cli"),
    *("proxy-aborted", "otlp-aborted", "api-aborted", "cli-aborted"),
)
TELEMETRY: Final = ("otlp", "proxy")
"""Sources that see who makes a call, not only that it was made."""
_RANK: Final = {name: rank for rank, name in enumerate(SPEAKERS)}
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_MAX_TAGS: Final = 32
UNSEEN: Final = "?"
"""In `same_as` of a record: nobody saw this call yet, something was only concluded about it."""
# Nine digits of dollars, as an event may say: what rounds up to a tenth must be readable when it comes back.
_MOST_NANO: Final = 10**18 - 1

# These describe one place and stay together: machine, session and project of one observation.
# `observed_at` belongs to them: it says when that place was seen.
_PLACE: Final = (
    *("observed_at", "session_id", "session_started_at", "machine_id", "key_id", "user_id", "user_email"),
    *("account_id", "device_id"),
    *("project", "git_branch", "team", "department", "cost_center", "identity_provider", "agent"),
    *("is_sidechain", "prompt_id"),
)
_TOKENS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
_SPLIT: Final = ("cache_write_5m_tokens", "cache_write_1h_tokens")
# Each on its own, the smallest known string.
_WORDS: Final = (
    *("message_id", "request_id", "same_as", "client", "provider", "model", "error_type", "stop_reason"),
    *("service_tier", "speed", "effort", "inference_geo", "query_source"),
)
# Each on its own, the maximum.
_PEAKS: Final = (
    *("duration_ms", "ttft_ms", "retry_attempt", "reasoning_tokens", "web_search_requests", "http_status"),
)
_SCALARS: Final = tuple(
    name
    for name in (*_PLACE, *_WORDS, *_PEAKS)
    if name not in ("session_id", "session_started_at", "observed_at", "same_as")
)
# What an observation says of the answer to a call.
_NOTHING: Final[dict[str, Any]] = {
    **dict.fromkeys((*_TOKENS, *_SPLIT, *_PEAKS), 0),
    **dict.fromkeys(("message_id", "stop_reason", "reported_cost_usd"), ""),
}
_UNFINISHED: Final = frozenset({"answer_unfinished", "usage_unread"})
"""Say that the proxy found no end in an answer, or no usage, not that it saw the answer break off."""
_NOWHERE: Final[dict[str, Any]] = {
    field.name: field.default for field in msgspec.structs.fields(UsageEvent) if field.name in _PLACE
}
_BY_DEVICE: Final = 2
_words: Final = attrgetter(*_WORDS)
_peaks: Final = attrgetter(*_PEAKS)
_place_texts: Final = attrgetter(*(name for name in _PLACE if not name.endswith("_at")))


def speaker(event: UsageEvent) -> str:
    """Return who speaks: the source, or `<source>-aborted`."""
    if event.status == "aborted" and event.source != "link":
        return f"{event.source}-aborted"
    return event.source


def add(state: State, event: UsageEvent) -> State:
    """Return the state joined with one more observation; the same object if nothing is new."""
    who = speaker(event)
    known = state.get(who)
    joined = event if known is None else join(known, event)
    if known is not None and (joined is known or joined == known):
        return state
    if len(state) == (known is not None):
        return {who: joined}
    changed = {**state, who: joined}
    return {name: changed[name] for name in sorted(changed, key=_RANK.__getitem__)}


def join(a: UsageEvent, b: UsageEvent) -> UsageEvent:
    """Join two observations of one call by the same speaker; `a` itself where `b` adds nothing."""
    if a == b:
        return a
    news: dict[str, Any] = {}
    if _token_order(b) > _token_order(a):
        news |= {name: getattr(b, name) for name in _TOKENS}
    if _split_order(b) > _split_order(a):
        news |= {name: getattr(b, name) for name in _SPLIT}
    if a.source == "link":
        news |= _joined_people(a, b)
    elif _comes_first(b, a):
        news |= {name: getattr(b, name) for name in _PLACE}
    if _words(a) != _words(b):
        news |= {name: _smallest(getattr(a, name), getattr(b, name)) for name in _WORDS}
    if _peaks(a) != _peaks(b):
        news |= {name: max(getattr(a, name), getattr(b, name)) for name in _PEAKS}
    if b.occurred_at < a.occurred_at:
        news["occurred_at"] = b.occurred_at
    if a.status != b.status:
        news["status"] = "ok" if "ok" in (a.status, b.status) else max(a.status, b.status)
    if a.reported_cost_usd != b.reported_cost_usd:
        news["reported_cost_usd"] = max(a.reported_cost_usd, b.reported_cost_usd, key=_dollars)
    if a.tags != b.tags:
        news["tags"] = _joined_tags((a.tags, b.tags))
    return msgspec.structs.replace(a, **news) if news else a


def merged(state: State) -> tuple[UsageEvent, str]:
    """Return the record that a state amounts to, and the source that gave its tokens.

    The record's `source` is the most trusted one, its cache writes are split without remainder:
    what the winning total exceeds the finest known split by counts as 5-minute writes.
    A record with `same_as` is not counted: it is the call with that id.
    """
    said = _in_order_of_trust(state)
    saw = [e for e in said if e.source != "link"]
    same_as = absorbed_by(state) or ("" if saw else UNSEEN)
    saw = saw or said
    best = saw[0]
    counted = next((e for e in saw if sum(_token_vector(e))), best)
    write_5m, write_1h = _split(saw, counted.cache_write_tokens)
    session = next((e for e in saw if e.session_id), best)
    if any(e.user_email and e.source in TELEMETRY for e in saw):
        # Whom the call's own telemetry names needs no conclusion, whichever came first.
        said = saw
    fields = {
        name: next((v for e in said if (v := getattr(e, name))), getattr(best, name)) for name in _SCALARS
    }
    fields["user_id"] = _user_id(said) or fields["user_id"]
    # Telemetry has the speed that was asked for; log and proxy have the one that answered, and was billed.
    fields["speed"] = next((e.speed for e in said if e.speed and e.source != "otlp"), fields["speed"])
    fields["reasoning_tokens"] = min(fields["reasoning_tokens"], counted.output_tokens)
    record = UsageEvent(
        call_id=best.call_id,
        source=best.source,
        org_id=best.org_id,
        occurred_at=min(e.occurred_at for e in saw),
        observed_at=min((e.observed_at for e in saw if e.observed_at), default=None),
        same_as=same_as,
        session_id=session.session_id,
        session_started_at=session.session_started_at,
        status=_status(best, state, fields["stop_reason"]),
        input_tokens=counted.input_tokens,
        cache_read_tokens=counted.cache_read_tokens,
        cache_write_tokens=counted.cache_write_tokens,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=counted.output_tokens,
        reported_cost_usd=next((e.reported_cost_usd for e in said if e.reported_cost_usd), ""),
        tags=_ranked_tags(said),
        **fields,
    )
    return record, counted.source if counted.source != "link" else ""


def sources(state: State) -> list[str]:
    """Return the sources that saw the call, sorted."""
    return sorted({e.source for e in state.values() if e.source != "link"})


def absorbed_by(state: State) -> str:
    """Return the id of the call that this one is by what is said of it, "" if it stands for itself."""
    said = [e.same_as for e in state.values() if e.same_as]
    if len(said) < 2:
        return said[0] if said else ""
    return reduce(lambda one, other: alias_and_call(one, other)[1], said)


def canonical(event: UsageEvent) -> UsageEvent:
    """Bring an event, in place, to the form that the store can hold, and return it.

    UTC milliseconds, reported cost in whole nano-dollars, the total of cache writes always explicit, tags in
    order of key.
    Joins happen on canonical events only, so that a state read back equals the state written.
    """
    event.occurred_at = _utc_millis(event.occurred_at)
    event.observed_at = _utc_millis(event.observed_at or event.occurred_at)
    if event.session_started_at is not None:
        event.session_started_at = _utc_millis(event.session_started_at)
    split = event.cache_write_5m_tokens + event.cache_write_1h_tokens
    event.cache_write_tokens = max(event.cache_write_tokens, split)
    if len(event.tags) > 1:
        event.tags = dict(sorted(event.tags.items()))
    if event.reported_cost_usd:
        event.reported_cost_usd = usd_text(min(nano_usd(event.reported_cost_usd), _MOST_NANO))
    return event


def nano_usd(text: str) -> int:
    """Return a decimal dollar amount in whole nano-dollars, rounded half to even; "" is 0."""
    return round(Decimal(text or 0).scaleb(9))


def usd_text(nano: int) -> str:
    """Return nano-dollars as an exact decimal string without trailing zeros; 0 is ""."""
    return f"{Decimal(nano).scaleb(-9):f}".rstrip("0").rstrip(".") if nano else ""


def _in_order_of_trust(state: State) -> list[UsageEvent]:
    """Return what is said, the most trusted first.

    After a stream that broke, Claude Code before 2.1 asks again without streaming, and logs the answer under
    the request that broke. Where the proxy saw that request bring the start of another message, the log's
    line, and telemetry that was found to be of it, say no more than where the call was made: the answer is
    counted under its own request.
    """
    log, broken = state.get("cli"), state.get("proxy-aborted")
    if log is None or broken is None or not broken.message_id or log.message_id in ("", broken.message_id):
        return list(state.values())
    telemetry, of_another = state.get("otlp"), {"cli"}
    if telemetry is not None and _token_vector(telemetry) == _token_vector(log):
        of_another.add("otlp")
    first = [e for name, e in state.items() if name not in of_another]
    return [*first, *(msgspec.structs.replace(state[name], **_NOTHING) for name in sorted(of_another))]


def _status(best: UsageEvent, state: State, stop_reason: str) -> Status:
    """Return how a call ended; a client that broke off can report what it had, without a reason to stop."""
    broken = state.get("proxy-aborted")
    if broken is None or "proxy" in state or stop_reason or broken.error_type in _UNFINISHED:
        return best.status
    return broken.status


def _token_vector(e: UsageEvent) -> tuple[int, int, int, int]:
    return (e.output_tokens, e.input_tokens, e.cache_read_tokens, e.cache_write_tokens)


def _token_order(e: UsageEvent) -> tuple[int, tuple[int, int, int, int]]:
    vector = _token_vector(e)
    return sum(vector), vector


def _split_order(e: UsageEvent) -> tuple[int, int]:
    return e.cache_write_5m_tokens + e.cache_write_1h_tokens, e.cache_write_1h_tokens


def _comes_first(a: UsageEvent, b: UsageEvent) -> bool:
    """Tell whether the place of `a` goes before that of `b`.

    Known sessions first, then the session that began first, then the earliest sight of it.
    """
    order_a, order_b = _place_order(a), _place_order(b)
    if order_a != order_b:
        return order_a < order_b
    texts_a, texts_b = _place_texts(a), _place_texts(b)
    return texts_a != texts_b and [*map(str, texts_a)] < [*map(str, texts_b)]


def _joined_people(a: UsageEvent, b: UsageEvent) -> dict[str, Any]:
    """Of two persons that were concluded, the one whom the session names goes before the account's, and that
    before the device's; then the one with the smaller address; of one, all that is known.

    A device of which two are named names nobody: people share them.
    """
    by_device = _named_by(a) == _named_by(b) == _BY_DEVICE
    order_a, order_b = (
        [_named_by(e), *((not v, v) for v in (e.user_email, e.user_id) if not by_device)] for e in (a, b)
    )
    if order_a != order_b:
        return {n: getattr(b, n) for n in _PLACE} if order_b < order_a else {}
    least = {n: min(known) for n in _PLACE if (known := [v for v in (getattr(a, n), getattr(b, n)) if v])}
    if by_device and (a.user_email != b.user_email or not a.user_email):
        return _NOWHERE | {n: least[n] for n in ("device_id", "observed_at") if n in least}
    return least


def _named_by(e: UsageEvent) -> int:
    """Return what a person was concluded from: the session, the account, the device, or nothing of these."""
    return next((n for n, known in enumerate((e.session_id, e.account_id, e.device_id)) if known), 3)


def _user_id(said: Iterable[UsageEvent]) -> str:
    """Return the user whom telemetry, or what was concluded from it, names with an address; else the first
    who is more than the account or the device that stands for one for want of a name.
    """
    named = [e.user_id for e in said if e.user_id not in ("", e.account_id, e.device_id)]
    people = [e.user_id for e in said if e.user_email and e.source in (*TELEMETRY, "link")]
    return next(filter(None, (*people, *named)), "")


def _place_order(e: UsageEvent) -> tuple[bool, datetime, datetime]:
    return (not e.session_id, e.session_started_at or _NEVER, e.observed_at or _NEVER)


def _dollars(text: str) -> Decimal:
    return Decimal(text or 0)


def _split(said: Iterable[UsageEvent], total: int) -> tuple[int, int]:
    finest = next((e for e in said if e.cache_write_5m_tokens or e.cache_write_1h_tokens), None)
    hour = min(finest.cache_write_1h_tokens, total) if finest is not None else 0
    return total - hour, hour


def _utc_millis(value: datetime) -> datetime:
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    excess = value.microsecond % 1000
    return value.replace(microsecond=value.microsecond - excess) if excess else value


def _smallest(a: str, b: str) -> str:
    return min(a, b) if a and b else a or b


def _joined_tags(maps: Iterable[Mapping[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for tags in maps:
        for key, value in tags.items():
            joined[key] = _smallest(joined.get(key, ""), value)
    # The first keys of a union stay the first keys of every larger union: the bound keeps the laws.
    return {key: joined[key] for key in sorted(joined)[:_MAX_TAGS]}


def _ranked_tags(said: Iterable[UsageEvent]) -> dict[str, str]:
    ranked: dict[str, str] = {}
    for event in said:
        ranked = {**event.tags, **ranked}
    return {key: ranked[key] for key in sorted(ranked)[:_MAX_TAGS]}
