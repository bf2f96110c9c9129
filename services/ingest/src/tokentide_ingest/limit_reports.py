"""What clients report of their providers' limits, such as the windows in Claude Code's status line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive

from tokentide_common.accounts import KeyDirectory, KeyRecord
from tokentide_common.broker import Record
from tokentide_common.database import utc_now
from tokentide_common.errors import InvalidRequest, TokentideError
from tokentide_common.events import EARLIEST, Text, Utc
from tokentide_common.last_seen import SeenMachine
from tokentide_common.limit_facts import Amount, LimitFact, Utilization, encode_limit_fact, key_of
from tokentide_common.metrics import Metrics
from tokentide_common.token_bucket import TokenBuckets
from tokentide_common.topics import LIMITS
from tokentide_ingest.batch import Machine
from tokentide_ingest.body import read_body
from tokentide_ingest.dispatch import Dispatch
from tokentide_ingest.limits import ByteBudget
from tokentide_ingest.receiver import seen_machine
from tokentide_ingest.routes import joined_headers, refusal
from tokentide_ingest.who_sends import admit_sender

LIMIT_REPORTS: Final = "/api/v1/cli/limits"
_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_LIMITS: Final = 32
_LONGEST: Final = timedelta(days=400)


class ReportedLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit as a client knows it; the fields are those of `LimitFact`.

    It names no account: whoever could would speak for the accounts of others. Its key stands for it.
    """

    kind: Literal["unified_5h", "unified_7d"]
    """The windows that a status line knows; what a minute allows is read from answers alone."""
    provider: Text = "anthropic"
    observed_at: Utc | None = None
    limit: Amount | None = None
    remaining: Amount | None = None
    utilization: Utilization = ""
    window_minutes: Amount | None = None
    resets_at: Utc | None = None
    status: Text = ""


class LimitReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a report."""

    limits: Annotated[list[ReportedLimit], msgspec.Meta(max_length=_MAX_LIMITS)]
    machine: Machine = Machine()


class LimitsAnswer(msgspec.Struct, frozen=True):
    """How many limits were taken: all of them, or the report was refused."""

    accepted: int


class LimitReports:
    """Takes reports and puts them on the topic of limits, beside what the proxy reads from answers."""

    def __init__(
        self,
        dispatch: Dispatch,
        budget: ByteBudget,
        *,
        read_timeout_s: float,
        saw: Callable[[SeenMachine], None],
    ) -> None:
        self._dispatch = dispatch
        self._budget = budget
        self._read_timeout_s = read_timeout_s
        self._saw = saw

    async def receive(self, key: KeyRecord, headers: Mapping[str, str], receive: Receive) -> LimitsAnswer:
        """Return the answer for a report once the broker has it; raises the errors of the contract."""
        with self._budget.share() as share:
            body = await read_body(
                receive, headers, hold=share.grow, timeout_s=self._read_timeout_s, limit=_MAX_BODY_BYTES
            )
            report = read_report(body)
            facts = facts_of(report, key, utc_now())
            records = [Record(key_of(fact), encode_limit_fact(fact)) for fact in facts]
            await self._dispatch.pass_on(LIMITS, records)
        self._saw(seen_machine(report.machine, key, headers))
        return LimitsAnswer(len(records))


def limit_routes(
    reports: LimitReports, keys: Callable[[], KeyDirectory], rate: TokenBuckets, metrics: Metrics
) -> list[HTTPRouteHandler]:
    """Return the handler of `POST /api/v1/cli/limits`."""

    @post(LIMIT_REPORTS, request_max_body_size=None, summary="Take what a client knows of its limits")
    async def report_limits(request: Request[Any, Any, Any]) -> Response[bytes]:
        headers = joined_headers(request.scope["headers"])
        try:
            # Who it is comes before what it says: a stranger's body is never read.
            key = await admit_sender(keys(), headers)
            rate.admit(key.key_id)
            answer = await reports.receive(key, headers, request.receive)
            response = Response(msgspec.json.encode(answer), status_code=202, media_type="application/json")
        except TokentideError as error:
            response = refusal(request, error)
        metrics.counter(
            "tokentide_ingest_requests_total", route=LIMIT_REPORTS, status=str(response.status_code)
        ).inc()
        return response

    return [report_limits]


def read_report(body: bytes | bytearray) -> LimitReport:
    """Return what a body says; raises `InvalidRequest`, whose detail names the field and quotes nothing."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(f"not a report of limits: {str(exc)[:300]}", code="malformed_body") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the body is not JSON", code="malformed_body") from None


def facts_of(report: LimitReport, key: KeyRecord, now: datetime) -> list[LimitFact]:
    """Return the facts that a report states, stamped with what its key stands for. Pure."""
    return [_fact(said, key, now) for said in report.limits]


def _fact(said: ReportedLimit, key: KeyRecord, now: datetime) -> LimitFact:
    # The latest word of a limit counts: one that a clock set ahead dates into the future would outlast every
    # true one, so nothing is taken to have been observed later than now.
    observed_at = min(said.observed_at or now, now)
    resets_at = said.resets_at or now
    wrong = "observed_at" if observed_at < EARLIEST else "resets_at"
    if observed_at < EARLIEST or not EARLIEST <= resets_at < now + _LONGEST:
        raise InvalidRequest(
            f"{wrong} is out of range",
            code="timestamp_out_of_range",
            fields={wrong: f"from {EARLIEST:%Y} to {_LONGEST.days} days from now"},
        )
    named = {name: getattr(said, name) for name in said.__struct_fields__}
    stamp = {"source": "cli", "org_id": key.org_id, "key_id": key.key_id, "observed_at": observed_at}
    return LimitFact(**{**named, **stamp})


_decoder: Final = msgspec.json.Decoder(LimitReport)
