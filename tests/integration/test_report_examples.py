"""The example answers in the reference are what routes and reports answer, and no route is without one."""

from __future__ import annotations

from infra.report_examples import PLACE, examples, written


async def test_the_reference_shows_what_every_route_and_report_answers(store, tmp_path):
    found = await examples(store, tmp_path)
    assert all(answer["rows"] for answer in found.reports.values()), "an example without rows shows nothing"
    documented = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in found.document["paths"].items()
        for method in methods
        if not path.startswith("/api/v1/reports/")
    }
    assert set(found.routes) == documented
    for name, answers in (("report", found.reports), ("route", found.routes)):
        place = PLACE / f"{name}-examples.json"
        assert place.read_text("utf-8") == written(answers), "run what tests/infra/report_examples.py says"
