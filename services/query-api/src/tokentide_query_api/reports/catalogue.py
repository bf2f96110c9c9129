"""All reports, and how they are described."""

from __future__ import annotations

from typing import Final

from litestar.openapi.spec import Schema

from tokentide_query_api import parameters as p
from tokentide_query_api import shapes
from tokentide_query_api.asking import Asking
from tokentide_query_api.formats import Answer, Kind, columns
from tokentide_query_api.money import anomalies, cache, cache_losses, efficiency, pace, plan_savings, unpriced
from tokentide_query_api.openapi import array, fields
from tokentide_query_api.parameters import Parameter
from tokentide_query_api.reports import (
    attribution,
    groups,
    pattern,
    people,
    rates,
    session_report,
    token_types,
)
from tokentide_query_api.reports.report import Report

REPORTS: Final[tuple[Report, ...]] = (
    *people.REPORTS,
    *token_types.REPORTS,
    *attribution.REPORTS,
    *pattern.REPORTS,
    *groups.REPORTS,
    *rates.REPORTS,
    *session_report.REPORTS,
    *pace.REPORTS,
    *anomalies.REPORTS,
    *efficiency.REPORTS,
    *cache.REPORTS,
    *cache_losses.REPORTS,
    *unpriced.REPORTS,
    *plan_savings.REPORTS,
)
_COLUMNS: Final = (*columns(Kind.TEXT, "name", "title", "path"), *columns(Kind.NESTED, "columns"))
LIST_OF_REPORTS: Final = fields(
    items=array(fields(name=shapes.TEXT, title=shapes.TEXT, path=shapes.TEXT, columns=array(shapes.TEXT)))
)


def report_parameters(report: Report) -> tuple[Parameter, ...]:
    """Return every parameter of a report's route."""
    return (*p.PERIOD, *report.filters, *report.parameters)


def of_report(report: Report) -> Schema:
    """Return the shape of a report's answer."""
    row = shapes.row_of(report.columns)
    head = dict.fromkeys(("report", "from", "to", "tz"), shapes.TEXT)
    return fields(**head, rows=array(row))


async def reports(_ask: Asking) -> Answer:
    """Answer which reports there are."""
    items = [
        {
            "name": report.name,
            "title": report.title,
            "path": f"/api/v1/reports/{report.name}",
            "columns": [column.name for column in report.columns],
        }
        for report in REPORTS
    ]
    return Answer({"items": items}, _COLUMNS, items)
