"""Questions about coverage read every table for one organisation, and values are parameters."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tokentide_query_api.coverage_statement import CoverageStatement
from tokentide_query_api.dimensions import DIMENSIONS, TABLES
from tokentide_query_api.scope import AnyOf, Filter, Scope, Sight

NAMES = {table.name for table in TABLES} | {"activity", "activity_15m", "activity_session"}
QUESTIONS: dict[str, Callable[[CoverageStatement], str]] = {
    "by_sources": lambda s: s.by_sources(["Ж"]),
    "by_start_and_sources": lambda s: s.by_start_and_sources([0, 86_400]),
    "same_calls": lambda s: s.same_calls(["Ж"]),
    "sightings": lambda s: s.sightings(["Ж"]),
    "own_totals": lambda s: s.own_totals(["Ж"]),
    "metrics_only": lambda s: s.metrics_only([0, 86_400]),
}


MINE = AnyOf((Filter(DIMENSIONS["user_id"], ("Ж",)), Filter(DIMENSIONS["user_email"], ("Ж",), fold=True)))


@pytest.mark.parametrize("own", [None, MINE], ids=["everything", "own calls"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_table_is_read_for_one_organisation_and_what_its_caller_sees(
    name: str, own: AnyOf | None
) -> None:
    statement = CoverageStatement(Scope(Sight("Ю", own=own, people=True), 1, 100_000_000))
    sql = QUESTIONS[name](statement)
    tables = re.findall(r"FROM (\w+)", sql)
    assert tables
    assert set(tables) <= NAMES
    assert len(re.findall(r"FROM \w+ AS x WHERE x\.org_id = \{org:String\} AND ", sql)) == len(tables)
    assert sql.count("OR lowerUTF8(x.user_email) IN") == (len(tables) if own else 0)
    assert statement.params["org"] == "Ю"
    assert not re.search("[ЖЮ]", sql)
    assert set(re.findall(r"\{(\w+):", sql)) <= set(statement.params)
