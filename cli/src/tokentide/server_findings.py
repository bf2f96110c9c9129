"""Whether the servers answer, let us in, and agree on the time; and when each source was heard last."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import httpx
import msgspec

from tokentide.connection import Connection, Service, usual_connection
from tokentide.failures import Failure
from tokentide.finding import Finding, State
from tokentide.http import open_client, refusal
from tokentide.limits_table import span

_TIMEOUT_S: Final = 5.0
_SOURCES: Final = ("cli", "otlp", "proxy", "api")
_SKEW_S: Final = 5
_BAD_SKEW_S: Final = 300


def server_findings(data_dir: Path | None) -> list[Finding]:
    """Return what there is to say of both servers."""
    found: list[Finding] = []
    ingest = _connection("ingest", data_dir, found)
    if ingest is not None:
        # A report of nothing: it asks whether the key is let in, and changes nothing.
        found += _answers("ingest", ingest, "POST", "/api/v1/cli/limits", {"limits": []})
    query = _connection("query", data_dir, found)
    if query is not None:
        told = _answers("query", query, "GET", "/api/v1/reports", None)
        found += told
        if all(finding.state != "failed" for finding in told):
            found += _last_events(query)
    return found


def skew(date: str, now: datetime, server: str) -> Finding:
    """Return what a server's Date header says of this machine's clock. Pure."""
    try:
        apart = (now - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):
        return Finding("clock", "note", f"{server} does not tell the time")
    if abs(apart) <= _SKEW_S:  # the header has whole seconds
        return Finding("clock", "ok", f"as that of {server}")
    ahead = "ahead of" if apart > 0 else "behind"
    state: State = "failed" if abs(apart) > _BAD_SKEW_S else "warning"
    return Finding("clock", state, f"{abs(apart):.0f} s {ahead} {server}", "set the clock")


def _connection(service: Service, data_dir: Path | None, found: list[Finding]) -> Connection | None:
    try:
        return usual_connection(service, os.environ, data_dir)
    except Failure as failure:
        found.append(Finding(service, "failed", failure.message, failure.hint))
        return None


def _answers(service: str, connection: Connection, method: str, path: str, body: object) -> Sequence[Finding]:
    with open_client(connection, timeout_s=_TIMEOUT_S) as client:
        try:
            answer = client.request(method, path, json=body) if body is not None else client.get(path)
        except httpx.TransportError as error:
            return [
                Finding(
                    service,
                    "failed",
                    f"cannot reach {connection.url}: {type(error).__name__}",
                    "is it running? `tokentide up` starts one on this machine",
                )
            ]
    clock = skew(answer.headers.get("date", ""), datetime.now(UTC), service)
    if answer.is_success:
        return [Finding(service, "ok", f"{connection.url} answers, and takes the key"), clock]
    failure = refusal(answer)
    return [Finding(service, "failed", failure.message, failure.hint), clock]


def _last_events(connection: Connection) -> Sequence[Finding]:
    found = []
    with open_client(connection, timeout_s=_TIMEOUT_S) as client:
        for source in _SOURCES:
            asked = {"from": "30d", "source": source, "limit": "1"}
            try:
                answer = client.get("/api/v1/calls", params=asked)
            except httpx.TransportError:
                return [Finding("last events", "warning", "the server did not answer in time")]
            if not answer.is_success:
                return [Finding("last events", "note", refusal(answer).message)]
            items = msgspec.json.decode(answer.content)["items"]
            if items:
                ago = datetime.now(UTC) - datetime.fromisoformat(items[0]["occurred_at"])
                found.append(Finding(f"last by {source}", "ok", f"{span(ago)} ago"))
    return found or [
        Finding("last events", "warning", "no call in 30 days", "`tokentide push` sends what the logs have")
    ]
