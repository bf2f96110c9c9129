"""Claude Code's own totals: its log's `cost-state` line becomes `SessionTotals`, or nothing. Pure.

The line says what the session has used since it began, also in requests that no other line shows. Like a
call's line it is internal to Claude Code, and only the fields named below are ever decoded.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from tokentide.claude_code import CLIENT
from tokentide_common.merge import nano_usd, usd_text
from tokentide_common.session_totals import MAX_MODELS, ModelTotals, SessionTotals, Tokens

_MARK: Final = b'"cost-state"'
# The line has a few hundred bytes a model: longer ones need not be searched for the mark.
_LONGEST: Final = 64 << 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_USD: Final = 10**9
_NAME: Final = 256


class TotalsPlace(msgspec.Struct, frozen=True):
    """What the log says before the line: when its last call was, and whose calls it begins with."""

    at: str = ""
    """The time of the last call, of the first line if there is none, in ISO 8601."""
    first_session: str = ""
    project: str = ""


class _Used(msgspec.Struct, rename="camel"):
    input_tokens: Tokens = 0
    cache_read_input_tokens: Tokens = 0
    cache_creation_input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    thinking_tokens: Tokens = 0
    cost_usd: Decimal = msgspec.field(name="costUSD", default=Decimal(0))


class _CostState(msgspec.Struct, rename="camel"):
    type: str
    session_id: str
    model_usage: Annotated[dict[str, _Used], msgspec.Meta(max_length=MAX_MODELS)]
    start_time: Annotated[int, msgspec.Meta(ge=0, le=2**42)] = 0


_decode: Final = msgspec.json.Decoder(_CostState).decode


def may_state_totals(line: bytes) -> bool:
    """Say, at little cost, whether a line is worth reading for totals."""
    return len(line) <= _LONGEST and _MARK in line


def read_totals(line: bytes, place: TotalsPlace) -> SessionTotals | None:
    """Return the totals that a line states, `None` where it states none.

    Raises one of `claude_code.UNREADABLE` for a line that cannot be read. Where no line before it has a
    time it says nothing: totals without a time cannot be told from later ones.
    """
    if not may_state_totals(line):
        return None
    read = _decode(line)
    if read.type != "cost-state" or not place.at or not read.session_id or not read.model_usage:
        return None
    session_id = read.session_id[:_NAME]
    return SessionTotals(
        session_id=session_id,
        at=datetime.fromisoformat(place.at),
        started_at=_EPOCH + timedelta(milliseconds=read.start_time) if read.start_time else None,
        forked_from="" if place.first_session == session_id else place.first_session,
        client=CLIENT,
        project=place.project[:_NAME],
        models={model[:_NAME]: _model(used) for model, used in read.model_usage.items() if model},
    )


def highest(known: SessionTotals | None, said: SessionTotals) -> SessionTotals:
    """Return the join of two totals of one session and start: for each model and field the greater one."""
    if known is None:
        return said
    models = dict(known.models)
    for model, used in said.models.items():
        models[model] = _higher(used, models[model]) if model in models else used
    return msgspec.structs.replace(said, at=max(known.at, said.at), models=models)


def key_of(totals: SessionTotals) -> tuple[str, datetime | None]:
    """Return what totals share that go on from each other: session and start."""
    return totals.session_id, totals.started_at


def _higher(one: ModelTotals, other: ModelTotals) -> ModelTotals:
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return ModelTotals(*(max(pair, key=Decimal) for pair in pairs))


def _model(used: _Used) -> ModelTotals:
    cost = used.cost_usd
    known = cost.is_finite() and 0 <= cost < _MOST_USD
    return ModelTotals(
        input_tokens=used.input_tokens,
        cache_read_tokens=used.cache_read_input_tokens,
        cache_write_tokens=used.cache_creation_input_tokens,
        output_tokens=used.output_tokens,
        # Part of the output, as in a usage event.
        reasoning_tokens=min(used.thinking_tokens, used.output_tokens),
        cost_usd=(usd_text(nano_usd(str(cost))) if known else "") or "0",
    )
