"""The reading routes: each a path, its parameters, the shape of its answer, and who finds the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlencode

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Schema

from tokentide_common.broker import Publisher
from tokentide_common.errors import NotFound
from tokentide_common.kept_rows import KeptRows
from tokentide_common.pricing import Prices
from tokentide_common.store import Store
from tokentide_query_api import activity_words, shapes
from tokentide_query_api import leaderboard as board
from tokentide_query_api import parameters as p
from tokentide_query_api import rankings as ranked
from tokentide_query_api.accounts.desk import Desk
from tokentide_query_api.accounts.principal import Principal
from tokentide_query_api.activity import activity, activity_metrics_only
from tokentide_query_api.asking import Asking
from tokentide_query_api.blocks.answer import blocks
from tokentide_query_api.breakdown import breakdown
from tokentide_query_api.calls import call, calls
from tokentide_query_api.coverage import coverage
from tokentide_query_api.coverage_days import coverage_days
from tokentide_query_api.export import partitions
from tokentide_query_api.formats import MEDIA_TYPES, Answer, negotiated, rendered
from tokentide_query_api.kept_answers import KeptAnswers
from tokentide_query_api.leaderboard import Leaderboard
from tokentide_query_api.limits import limits
from tokentide_query_api.money import compare as compared
from tokentide_query_api.openapi import operation_of
from tokentide_query_api.parameters import Arguments, Parameter
from tokentide_query_api.pseudonyms import Pseudonyms
from tokentide_query_api.reports.catalogue import (
    LIST_OF_REPORTS,
    REPORTS,
    of_report,
    report_parameters,
    reports,
)
from tokentide_query_api.reports.report import TOP
from tokentide_query_api.sessions import sessions
from tokentide_query_api.store_wall import WalledStore
from tokentide_query_api.summary import summary
from tokentide_query_api.timeseries import timeseries
from tokentide_query_api.visibility import require_people, sight_of

PREFIX: Final = "/api/v1"
_CALL_PATH: Final = f"{PREFIX}/calls/"
_HEADERS: Final = {
    "cache-control": "private, no-store",
    "vary": "accept, authorization, x-tokentide-key",
    "x-content-type-options": "nosniff",
}


class Sources(msgspec.Struct, frozen=True):
    """Where answers come from."""

    store: Store
    desk: Desk
    pseudonyms: Pseudonyms
    leaderboard: Leaderboard
    prices: Prices
    publisher: Publisher
    kept: KeptRows
    answers: KeptAnswers


class Route(msgspec.Struct, frozen=True):
    """A reading route."""

    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    shape: Schema
    answer: Callable[[Asking, Sources, str], Awaitable[Answer]]
    for_viewers: bool
    """False: it tells persons, sessions or single calls apart, whatever its parameters."""


def routes() -> tuple[Route, ...]:
    """Return every reading route."""
    return (*_sums(), *_lists(), *_standings(), *_reports())


def _sums() -> tuple[Route, ...]:
    period = (*p.PERIOD, *p.FILTERS)
    series = (*period, p.BUCKET, p.GROUP_BY)
    parts = (*period, p.BY, p.METRIC, p.LIMIT)
    done = (*p.PERIOD, *activity_words.FILTERS, activity_words.BUCKET, activity_words.BY)
    return (
        Route("/usage/summary", "Totals of a period", period, shapes.SUMMARY, _of(summary), True),
        Route("/usage/timeseries", "Measures per bucket", series, shapes.TIMESERIES, _of(timeseries), True),
        Route("/usage/breakdown", "Measures per dimension", parts, shapes.BREAKDOWN, _of(breakdown), True),
        Route(
            "/compare",
            "Two periods side by side",
            compared.PARAMETERS,
            compared.SHAPE,
            _of(compared.compare),
            for_viewers=True,
        ),
        Route(
            "/activity",
            "What was done besides calling a model",
            (*done, activity_words.METRIC),
            shapes.ACTIVITY,
            _of(activity),
            for_viewers=True,
        ),
        Route(
            "/activity/metrics-only",
            "Tokens and cost by the clients' own metrics, where no call is known",
            done,
            shapes.METRICS_ONLY,
            _of(activity_metrics_only),
            for_viewers=True,
        ),
        Route(
            "/coverage/days",
            "Who saw the calls of a day",
            period,
            shapes.COVERAGE_DAYS,
            _of(coverage_days),
            for_viewers=True,
        ),
    )


def _lists() -> tuple[Route, ...]:
    period = (*p.PERIOD, *p.FILTERS)
    page = (*period, p.LIMIT, p.CURSOR)
    call_pages, session_pages = shapes.page_of(shapes.CALL), shapes.page_of(shapes.SESSION)
    coverage_pages, one = shapes.page_of(shapes.COVERAGE), (p.FORMAT,)
    return (
        Route("/calls", "The request log, newest first", page, call_pages, _of(calls), False),
        Route("/calls/{call_id}", "One call in full", one, shapes.CALL_WITH_OBSERVATIONS, _one_call, False),
        Route("/sessions", "Sessions, newest first", page, session_pages, _of(sessions), False),
        Route("/coverage", "Which sources saw which calls", page, coverage_pages, _of(coverage), False),
        Route(
            "/export/partitions",
            "Fingerprints of days or hours, by which an export is kept up to date",
            partitions.PARAMETERS,
            shapes.PARTITIONS,
            _of(partitions.partitions),
            for_viewers=False,
        ),
        Route("/limits", "How full the limits of providers are", one, shapes.LIMITS, _of(limits), False),
        Route(
            "/blocks",
            "5-hour and weekly windows of accounts",
            (*period, TOP),
            shapes.BLOCKS,
            _of(blocks),
            False,
        ),
    )


def _standings() -> tuple[Route, ...]:
    return (
        Route("/rankings", "Who used most", ranked.PARAMETERS, shapes.RANKINGS, _rankings, True),
        Route(
            "/leaderboard",
            "Who used most, of all who chose to be shown",
            board.PARAMETERS,
            shapes.LEADERBOARD,
            _leaderboard,
            for_viewers=True,
        ),
    )


def _reports() -> tuple[Route, ...]:
    return (
        Route("/reports", "The named reports", (p.FORMAT,), LIST_OF_REPORTS, _of(reports), True),
        *(
            Route(
                f"/reports/{report.name}",
                report.title,
                report_parameters(report),
                of_report(report),
                _of(report.answer),
                for_viewers=not report.of_people,
            )
            for report in REPORTS
        ),
    )


def reading_handlers(sources: Callable[[], Sources]) -> Sequence[HTTPRouteHandler]:
    """Return the Litestar handlers of all reading routes."""
    return [_handler(route, sources) for route in routes()]


def _handler(route: Route, sources: Callable[[], Sources]) -> HTTPRouteHandler:
    by_id = "{call_id}" in route.path

    @get(
        PREFIX + route.path.replace("{call_id}", "{call_id:path}"),
        operation_id=route.path.strip("/")
        .replace("/{call_id}", "_by_id")
        .replace("/", "_")
        .replace("-", "_"),
        summary=route.summary,
        operation_class=operation_of(route.parameters, route.shape, path_id="call_id" if by_id else ""),
    )
    async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
        at = sources()
        # The organisation of every statement below is the one that this caller speaks for.
        principal = await at.desk.admit_reader(request)
        sight = sight_of(principal)
        if not route.for_viewers:
            require_people(sight)
        arguments = Arguments(request.scope["query_string"], route.parameters, sight)
        fmt = negotiated(arguments.one(p.FORMAT), request.headers.get("accept", ""))
        asking = asking_of(at, principal, route.path, arguments)
        answer = await route.answer(asking, at, _call_id(request))
        return Response(
            rendered(answer, fmt), media_type=MEDIA_TYPES[fmt], headers={**_HEADERS, **_next(request, answer)}
        )

    return handle


def asking_of(
    at: Sources, principal: Principal, path: str, arguments: Arguments, *, once: bool = False
) -> Asking:
    """Return the question of a caller who was let in; no other organisation is within its reach.

    `once`: it is not asked again soon, and long, so that keeping its answer would drive out others.
    """
    source = at.store if once else at.answers
    store = WalledStore(source, [principal.org_id], at.kept.whole_from_ms)
    now, keys = at.desk.clock(), at.desk.keys
    return Asking(store, principal, now, path, arguments, at.prices, keys, at.desk.engine)


def _of(answer: Callable[[Asking], Awaitable[Answer]]) -> Callable[[Asking, Sources, str], Awaitable[Answer]]:
    async def answered(asking: Asking, _sources: Sources, _call_id: str) -> Answer:
        return await answer(asking)

    return answered


async def _one_call(asking: Asking, _sources: Sources, call_id: str) -> Answer:
    return await call(asking, call_id)


async def _rankings(asking: Asking, sources: Sources, _call_id: str) -> Answer:
    people = sources.desk.people
    organization = people.organization(asking.org_id)
    if organization is None:  # founded since people were last looked for
        await people.refresh()
        organization = people.organization(asking.org_id)
    if organization is None:
        raise NotFound("there is no such organisation")
    return await ranked.rankings(asking, organization, sources.pseudonyms)


async def _leaderboard(asking: Asking, sources: Sources, _call_id: str) -> Answer:
    return await board.leaderboard(asking, sources.leaderboard, sources.desk.people.on_leaderboard())


def _call_id(request: Request[Any, Any, Any]) -> str:
    """Return the id in the path as it was sent: ids may hold an escaped slash."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    _, _, escaped = raw.partition(b"?")[0].decode("latin-1").partition(_CALL_PATH)
    return unquote(escaped)


def _next(request: Request[Any, Any, Any], answer: Answer) -> dict[str, str]:
    """Return the header by which formats without a body of their own name the next page."""
    if answer.next_cursor is None:
        return {}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = urlencode([*kept, ("cursor", answer.next_cursor)])
    return {"link": f'<{request.scope["path"]}?{query}>; rel="next"', "x-next-cursor": answer.next_cursor}
