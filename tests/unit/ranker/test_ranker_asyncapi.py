"""The published description of the ranker's channels is what the code says."""

from __future__ import annotations

import json
from pathlib import Path

from tokentide_ranker.asyncapi import document

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "asyncapi-ranker.json"


def test_the_asyncapi_document_is_current() -> None:
    assert PAGE.read_bytes() == document(), "run: python -m tokentide_ranker.asyncapi > " + str(PAGE)


def test_the_document_names_both_channels_and_their_records() -> None:
    described = json.loads(document())
    assert {channel["address"] for channel in described["channels"].values()} == {
        "tokentide.periods",
        "tokentide.rankings",
    }
    assert {"PeriodsTouched", "RankingPublished"} <= described["components"]["schemas"].keys()
