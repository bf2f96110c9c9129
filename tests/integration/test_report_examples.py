"""The example answers in the reference are what the reports answer."""

from __future__ import annotations

from infra.report_examples import PLACE, examples, written


async def test_the_reference_shows_what_reports_answer(store, tmp_path):
    found = await examples(store, tmp_path)
    assert all(answer["rows"] for answer in found.values()), "an example without rows shows nothing"
    assert PLACE.read_text("utf-8") == written(found), "run what tests/infra/report_examples.py says"
