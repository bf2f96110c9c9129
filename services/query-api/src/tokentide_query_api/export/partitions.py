"""`GET /api/v1/export/partitions`: of each day or hour, whether its calls are still those of a file."""

from __future__ import annotations

from typing import Final

from tokentide_query_api import parameters as p
from tokentide_query_api.asking import Asking
from tokentide_query_api.buckets import bucket_starts
from tokentide_query_api.dimensions import LEDGER
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.record import LEDGER_COLUMNS
from tokentide_query_api.statement import Statement

BUCKET: Final = Parameter("bucket", "Width of a partition.", ("day", "hour"), "day")
PARAMETERS: Final = (*p.PERIOD, *p.FILTERS, BUCKET)
COLUMNS: Final = (
    *columns(Kind.TIME, "start"),
    *columns(Kind.COUNT, "calls"),
    *columns(Kind.TEXT, "fingerprint"),
)
# What is written of a call, but for what a hash cannot take as it is: null would make all of it null.
_PLAIN: Final = [name for name in LEDGER_COLUMNS if name not in ("version", "sign", "session_started_at")]
_WRITTEN: Final = ", ".join([*(f"x.{n}" for n in _PLAIN), "ifNull(toString(x.session_started_at), '')"])
# The guarantee: a row that takes back is an exact copy but for its sign, so that the sum, over the integers
# modulo 2^64, is that of the calls as they stand, whatever states were before and whatever was tidied away.
_FINGERPRINT: Final = f"hex(sum(toUInt64(x.sign) * cityHash64({_WRITTEN})))"


async def partitions(ask: Asking) -> Answer:
    """Answer the partitions of a period, those without a call too."""
    period = ask.period()
    bucket = ask.arguments.text(BUCKET)
    starts = bucket_starts(period, bucket)
    seconds = [int(start.timestamp()) for start in starts]
    statement = Statement(ask.scope(period.start_ms, period.end_ms))
    sums = f"sum(toInt64(x.sign)) AS calls, {_FINGERPRINT} AS fingerprint"
    sql = statement.ledger(f"{statement.start(LEDGER, seconds)}, {sums}")
    found = await ask.rows(statement, f"{sql} GROUP BY t HAVING calls > 0")
    known = {row["t"]: row for row in found}
    rows = [
        {
            "start": start.astimezone(period.zone).isoformat(),
            "calls": known[second]["calls"] if second in known else 0,
            "fingerprint": known[second]["fingerprint"] if second in known else "",
        }
        for start, second in zip(starts, seconds, strict=True)
    ]
    body = {
        "bucket": bucket,
        "tz": period.zone.key,
        "from": period.start.astimezone(period.zone).isoformat(),
        "to": period.end.astimezone(period.zone).isoformat(),
        "partitions": rows,
    }
    return Answer(body, COLUMNS, rows)
