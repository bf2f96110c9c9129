"""Questions to the query API. Its answers are shown as they are: nothing is counted here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import httpx
import msgspec

from tokentide.connection import Connection
from tokentide.failures import Exit, Failure
from tokentide.http import open_client, refusal, unreachable

_TIMEOUT_S: Final = 30.0

Answer = dict[str, Any]


class UsageQueries:
    """The questions of the reading commands, over one period and time zone."""

    def __init__(self, connection: Connection, period: dict[str, str]) -> None:
        self._connection = connection
        self._period = period

    def summary(self) -> Answer:
        """Return the measures of the whole period."""
        return self._get("usage/summary", {})

    def breakdown(self, by: str) -> Answer:
        """Return the measures per value of a dimension, the most expensive first."""
        return self._get("usage/breakdown", {"by": by, "metric": "cost_usd", "limit": "50"})

    def days(self) -> Answer:
        """Return the measures per day."""
        return self._get("usage/timeseries", {"bucket": "day"})

    def buckets(self, width: str) -> Answer:
        """Return the measures per day or week."""
        return self._get("usage/timeseries", {"bucket": width})

    def partitions(self, width: str) -> Answer:
        """Return the fingerprint of the calls of each day or hour."""
        return self._get("export/partitions", {"bucket": width})

    def export_calls(self, start: datetime, end: datetime, out: BinaryIO) -> None:
        """Write every call from `start` until `end` as Parquet; raises `Failure` when it breaks off."""
        asked = {"from": start.isoformat(), "to": end.isoformat(), "format": "parquet"}
        with open_client(self._connection, timeout_s=_TIMEOUT_S) as client:
            try:
                with client.stream("GET", "/api/v1/export/calls", params=asked) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise refusal(answer)
                    for piece in answer.iter_bytes():
                        out.write(piece)
            except httpx.TransportError as error:
                raise unreachable(self._connection, error) from None

    def coverage(self, limit: int) -> Answer:
        """Return the newest sessions, and who saw their calls."""
        return self._get("coverage", {"limit": str(limit)})

    def coverage_days(self) -> Answer:
        """Return the days, and who saw their calls."""
        return self._get("coverage/days", {})

    def limits(self) -> Answer:
        """Return how full the limits of providers are."""
        return self._get("limits", {})

    def blocks(self) -> Answer:
        """Return the 5-hour and weekly windows of accounts."""
        return self._get("blocks", {})

    def ask(self, question: str, **parameters: str) -> Answer:
        """Return the answer of any reading route by its path."""
        return self._get(question, parameters)

    def reports(self) -> Answer:
        """Return which named reports there are."""
        return self._get("reports", {})

    def report(self, name: str, parameters: Sequence[tuple[str, str]]) -> Answer:
        """Return a named report."""
        return _decoded(self._connection, self._asked(f"reports/{quote(name, safe='')}", parameters))

    def report_as_csv(self, name: str, parameters: Sequence[tuple[str, str]]) -> bytes:
        """Return a named report as the server writes it in CSV."""
        return self._asked(f"reports/{quote(name, safe='')}", (*parameters, ("format", "csv")))

    def _get(self, question: str, parameters: dict[str, str]) -> Answer:
        return _decoded(self._connection, self._asked(question, tuple(parameters.items())))

    def _asked(self, question: str, parameters: Sequence[tuple[str, str]]) -> bytes:
        with open_client(self._connection, timeout_s=_TIMEOUT_S) as client:
            try:
                answer = client.get(f"/api/v1/{question}", params=[*self._period.items(), *parameters])
            except httpx.TransportError as error:
                raise unreachable(self._connection, error) from None
        if not answer.is_success:
            failure = refusal(answer)
            if answer.status_code == httpx.codes.BAD_REQUEST:
                failure.code = Exit.USAGE  # the period or the time zone as it was typed
            raise failure
        return answer.content


def _decoded(connection: Connection, content: bytes) -> Answer:
    try:
        return msgspec.json.decode(content, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Failure(
            f"{connection.url} does not answer as a Tokentide server does",
            hint="check the address",
            code=Exit.FAILED,
        ) from None
