"""The AsyncAPI documents hold together."""

import importlib
import json

import pytest


@pytest.mark.parametrize("service", ["ingest", "aggregator", "ranker"])
def test_every_reference_in_a_document_leads_somewhere(service: str) -> None:
    whole = json.loads(importlib.import_module(f"tokentide_{service}.asyncapi").document())

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [ref for value in node.values() for ref in references(value)]
        return [ref for value in node for ref in references(value)] if isinstance(node, list) else []

    for reference in references(whole):
        place: object = whole
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            place = place[step.replace("~1", "/")]
