import json
from pathlib import Path

from tokentide_ingest.asyncapi import document

PAGE = Path(__file__).parents[3] / "docs/reference/asyncapi-ingest.json"


def test_the_page_on_topics_says_what_the_code_does() -> None:
    assert json.loads(PAGE.read_text("utf-8")) == document(), (
        "write it anew: python -c 'import json; from tokentide_ingest.asyncapi import document; "
        f"print(json.dumps(document(), indent=2))' > {PAGE.name}"
    )


def test_every_reference_in_the_document_leads_somewhere() -> None:
    whole = document()

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
