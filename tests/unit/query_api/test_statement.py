"""No SQL without the organisation, and no text of a caller inside SQL."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokentide_query_api
from tokentide_query_api.activity_statement import ActivityStatement
from tokentide_query_api.activity_words import ACTIVITY_DIMENSIONS, ACTIVITY_TABLES
from tokentide_query_api.dimensions import DIMENSIONS, TABLES, dimension
from tokentide_query_api.resolution import parts
from tokentide_query_api.scope import AnyOf, Filter, Scope, Sight
from tokentide_query_api.statement import Statement, runs

TABLE_NAMES = {table.name for table in TABLES}
# Letters that no SQL of ours has, so that a text of a caller is recognised wherever it lands.
foreign = st.text("ÄÖÜßø'\"`\\;{}%", min_size=3, max_size=12).map(lambda text: f"Ж{text}Ж")
MINE = AnyOf((Filter(DIMENSIONS["user_id"], ("Ж",)), Filter(DIMENSIONS["user_email"], ("Ж",), fold=True)))
sights = st.sampled_from([None, MINE])
dimensions = st.sampled_from(sorted(DIMENSIONS)) | foreign.map(lambda text: f"tag.{text}")


@given(
    org=foreign,
    own=sights,
    names=st.lists(dimensions, max_size=2, unique=True),
    filters=st.lists(
        st.tuples(dimensions, st.lists(foreign, min_size=1, max_size=3), st.booleans()), max_size=3
    ),
    edges=st.lists(st.integers(0, 2**41), min_size=2, max_size=6, unique=True).map(sorted),
    latency=st.booleans(),
)
def test_every_table_in_a_statement_is_read_for_one_organisation(org, own, names, filters, edges, latency):
    chosen = [dimension(name) for name in names]
    conditions = tuple(Filter(dimension(name), tuple(values), exclude) for name, values, exclude in filters)
    scope = Scope(Sight(org, own, people=True), edges[0], edges[-1], conditions)
    statement = Statement(scope)
    found = parts(edges, (*chosen, *scope.dimensions), latency=latency)
    texts = [
        statement.sums(found, chosen, edges_s=[e // 1000 for e in edges], latency=latency),
        statement.ledger("x.call_id AS call_id", where=f"x.call_id = {statement.bind('Ж', 'String')}"),
        *(statement.distinct({each: found}) for each in chosen),
        *([statement.distinct(dict.fromkeys(chosen, found))] if chosen else []),
    ]
    for sql in texts:
        read = re.findall(r"FROM (\w+) AS x WHERE x\.org_id = \{org:String\} AND ", sql)
        assert len(read) == len(re.findall(rf"\b({'|'.join(TABLE_NAMES)})\b", sql))
        assert sql.count("OR lowerUTF8(x.user_email) IN") == (len(read) if own else 0)
        assert "Ж" not in sql
        assert set(re.findall(r"\{(\w+):", sql)) <= set(statement.params)
    assert statement.params["org"] == org


@given(
    org=foreign,
    own=sights,
    names=st.lists(st.sampled_from(sorted(ACTIVITY_DIMENSIONS)), max_size=2, unique=True),
    filters=st.lists(
        st.tuples(st.sampled_from(sorted(ACTIVITY_DIMENSIONS)), st.lists(foreign, min_size=1), st.booleans()),
        max_size=3,
    ),
    quarters=st.lists(st.integers(0, 2**21), min_size=2, max_size=6, unique=True).map(sorted),
    bucketed=st.booleans(),
)
def test_every_table_of_activity_is_read_for_one_organisation(org, own, names, filters, quarters, bucketed):
    chosen = [ACTIVITY_DIMENSIONS[name] for name in names]
    conditions = tuple(Filter(ACTIVITY_DIMENSIONS[name], tuple(values), no) for name, values, no in filters)
    edges = [quarter * 900_000 for quarter in quarters]
    scope = Scope(Sight(org, own, people=True), edges[0], edges[-1], conditions)
    statement = ActivityStatement(scope)
    found = parts(edges, (*chosen, *scope.dimensions), tables=ACTIVITY_TABLES)
    starts = [edge // 1000 for edge in edges] if bucketed else []
    where = statement.without_calls((0, 86_400_000))
    texts = [
        statement.values(found, ["commits"], chosen, edges_s=starts),
        statement.values(found, ["client_tokens"], chosen, edges_s=starts, where=where),
        statement.sessions(found, ["client_tokens"], where),
    ]
    tables = TABLE_NAMES | {table.name for table in ACTIVITY_TABLES}
    for sql in texts:
        read = re.findall(r"FROM (\w+) AS x WHERE x\.org_id = \{org:String\} AND ", sql)
        assert len(read) == len(re.findall(rf"FROM ({'|'.join(tables)})\b", sql))
        assert sql.count("OR lowerUTF8(x.user_email) IN") == (len(read) if own else 0)
        assert "Ж" not in sql
        assert set(re.findall(r"\{(\w+):", sql)) <= set(statement.params)


def test_a_statement_of_nobody_cannot_be_made():
    with pytest.raises(ValueError, match="organisation"):
        Statement(Scope(Sight("", None, people=True), 0, 1))


def test_a_table_that_cannot_tell_whose_calls_they_are_is_refused_to_who_sees_only_own_calls():
    statement = Statement(Scope(Sight("o", MINE, people=True), 0, 86_400_000))
    planned_without_the_caller = parts((0, 86_400_000), ())
    with pytest.raises(ValueError, match="whose calls"):
        statement.sums(planned_without_the_caller)


def test_only_one_module_decides_what_a_caller_sees():
    folder = Path(tokentide_query_api.__file__).parent
    made = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Sight"
    }
    assert made == {"visibility.py"}


def test_the_store_is_asked_behind_its_wall_and_by_few_modules():
    """The store itself is known where it is opened and walled; whoever reads has a walled one."""
    folder = Path(tokentide_query_api.__file__).parent
    asking, walling = set(), set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "tokentide_common.store":
                asking |= {path.name for alias in node.names if alias.name == "rows"}
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "WalledStore":
                walling.add(path.name)
    readers = {"asking.py", "budget_usage.py", "calls.py", "leaderboard.py", "rankings.py", "repricing.py"}
    assert asking == readers
    assert walling == {"budget_usage.py", "leaderboard.py", "repricing.py", "routes.py"}


def test_only_one_module_knows_the_names_of_the_tables():
    """Elsewhere no text has a FROM of its own but for `seen`, which is read by a hash of the organisation,
    for the leaderboard, which spans organisations by its purpose, and for the parts that tables have.
    """
    folder = Path(tokentide_query_api.__file__).parent
    found = {
        path.name: text
        for path in folder.glob("*.py")
        if path.name != "statement.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for text in re.findall(r"FROM (\w+)", node.value)
    }
    assert found == {
        "calls.py": "seen",
        "app.py": "rankings",
        "leaderboard_statement.py": "ledger",
        "kept_answers.py": "system",
    }


@given(st.lists(st.integers(0, 500), unique=True).map(sorted))
def test_runs_are_another_way_to_write_the_same_numbers(numbers):
    written = runs(numbers)
    assert [first + step * i for first, step, count in written for i in range(count)] == numbers
    assert all(step > 0 for _, step, _ in written)
