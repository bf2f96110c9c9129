"""Batches to the server: retried with full jitter until it takes them, within a bound."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx
import msgspec

from tokentide.connection import Connection
from tokentide.failures import Failure
from tokentide.http import TRY_AGAIN, refusal, unreachable
from tokentide.machine import Machine
from tokentide_common.events import UsageEvent
from tokentide_common.session_totals import SessionTotals


class Patience(msgspec.Struct, frozen=True):
    """How long to try: waits grow from `base_s` to `longest_s`, until `give_up_after_s` have passed."""

    give_up_after_s: float = 120.0
    base_s: float = 0.5
    longest_s: float = 30.0


class Rejection(msgspec.Struct, frozen=True):
    """An event, or a session's totals, that the server will never take, and why."""

    index: int
    code: str
    detail: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """What became of an event that was waited for."""

    index: int
    verdict: str


class Answer(msgspec.Struct, frozen=True):
    """What the server says about a batch that it took."""

    accepted: int
    rejected: list[Rejection] = []
    rejected_totals: list[Rejection] = []
    batch_id: str = ""
    stored: bool = False
    verdicts: list[str | Verdict] = []


class NotYet(NamedTuple):
    """An attempt that can be followed by another: the failure if it is the last, the wait asked for."""

    failure: Failure
    asked_s: float = 0.0


class Sender:
    """Sends batches to one server. `sleep` is a parameter so that a test can tell the waits apart."""

    def __init__(
        self,
        client: httpx.Client,
        connection: Connection,
        machine: Machine,
        *,
        patience: Patience | None = None,
        wait_s: int = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.retries = 0
        self._client = client
        self._connection = connection
        self._machine = machine
        self._patience = patience or Patience()
        self._headers = {"content-type": "application/json", "content-encoding": "gzip"}
        if wait_s:
            self._headers["prefer"] = f"wait={wait_s}"
        self._sleep = sleep

    def send(self, events: list[UsageEvent], totals: list[SessionTotals] | None = None) -> Answer:
        """Return the server's answer once it has all that it accepts. Raises `Failure`.

        A batch whose answer got lost is sent again as it was: the server knows its calls by their identity.
        """
        content: dict[str, object] = {"machine": self._machine, "events": events}
        if totals:
            content["totals"] = totals
        body = gzip.compress(_encode(content), 6, mtime=0)
        give_up_at = time.monotonic() + self._patience.give_up_after_s
        attempt = 0
        while isinstance(answer := self._attempt(body), NotYet):
            pause = self._pause(attempt, answer.asked_s)
            if time.monotonic() + pause > give_up_at:
                raise answer.failure
            attempt += 1
            self.retries += 1
            self._sleep(pause)
        return answer

    def _attempt(self, body: bytes) -> Answer | NotYet:
        try:
            response = self._client.post("/api/v1/cli/batches", content=body, headers=self._headers)
        except httpx.TransportError as error:
            return NotYet(unreachable(self._connection, error))
        if response.is_success:
            return _read_answer(response)
        if response.status_code in TRY_AGAIN:
            return NotYet(refusal(response), retry_after(response, datetime.now(UTC)))
        raise refusal(response)

    def _pause(self, attempt: int, asked_s: float) -> float:
        """Full jitter: many clients that failed together do not come back together."""
        ceiling = min(self._patience.longest_s, self._patience.base_s * 2**attempt)
        return asked_s + random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing


def retry_after(response: httpx.Response, now: datetime) -> float:
    """Return the seconds that `Retry-After` asks for, whether it is a number or a date; 0 without it."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _read_answer(response: httpx.Response) -> Answer:
    try:
        return msgspec.json.decode(response.content, type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # A captive portal or a wrong address says 200 to everything: that took no events.
        raise Failure(
            f"{response.request.url} answered {response.status_code}, but not as a Tokentide server does",
            hint="check the address",
        ) from None


_encode = msgspec.json.Encoder().encode
