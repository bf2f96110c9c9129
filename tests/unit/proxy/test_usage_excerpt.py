"""The excerpt of a JSON document: exactly its wanted members, whatever the document and its pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokentide_proxy.usage.excerpt import MAX_KEPT_BYTES, Excerpt, Wanted

WANTED: Wanted = {
    b"usage": None,
    b"id": None,
    b"response": {b"id": None, b"usage": None},
    b"choices": {b"finish_reason": None},
}
KEYS = st.sampled_from(
    ["usage", "id", "response", "choices", "finish_reason", "content", 'a"usage', "x" * 70, ""]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | st.text()
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=4), max_leaves=30
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=6)


def told(value: Any, wanted: Wanted) -> Any:
    """What is wanted of a document, the plain way: scalars where a structure is expected are nothing."""
    if isinstance(value, list):
        return [told(one, wanted) for one in value if isinstance(one, (list, dict))]
    kept = {}
    for key, member in value.items():
        inner = wanted.get(key.encode(), {})
        if inner is None:
            kept[key] = member
        elif inner and isinstance(member, (list, dict)):
            kept[key] = told(member, inner)
    return kept


def excerpts(text: bytes, cuts: list[int]) -> list[Any]:
    excerpt = Excerpt(WANTED)
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    found = []
    for start, end in pairwise(places):
        excerpt.feed(text[start:end])
        found += excerpt.take()
    return [json.loads(one) for one in found]


@settings(deadline=None)
@given(DOCUMENTS, st.lists(st.integers(0, 2000), max_size=8), st.sampled_from([None, 1]), st.booleans())
@example({"content": {"usage": 1}, "usage": {"a": ["}", "\\", '"']}}, [], None, False)
def test_it_is_the_wanted_members_and_no_others(
    document: dict[str, Any], cuts: list[int], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert excerpts(text, cuts) == [told(document, WANTED)]


@settings(deadline=None)
@given(st.lists(DOCUMENTS, max_size=4), st.lists(st.integers(0, 2000), max_size=8))
def test_an_array_is_its_documents_one_by_one(documents: list[dict[str, Any]], cuts: list[int]) -> None:
    text = json.dumps(documents, indent=1).encode()
    assert excerpts(text, cuts) == [told(one, WANTED) for one in documents]


@settings(deadline=None)
@given(st.text(alphabet='{}[]",:\\ au1').map(str.encode), st.lists(st.integers(0, 2000), max_size=4))
def test_garbage_ends_and_gives_no_error(text: bytes, cuts: list[int]) -> None:
    excerpt = Excerpt(WANTED)
    excerpt.feed(text * 20)
    excerpt.take()


def test_a_member_of_the_same_name_inside_of_content_is_content() -> None:
    args = {"usage": {"input_tokens": 10**9}, "choices": [{"finish_reason": "forged"}]}
    text = json.dumps({"content": [args, {"x": args}], "usage": {"input_tokens": 7}}).encode()
    assert excerpts(text, []) == [{"usage": {"input_tokens": 7}}]


def test_an_excerpt_over_its_bound_is_dropped_and_the_next_one_is_not() -> None:
    documents = [{"id": "x" * (MAX_KEPT_BYTES + 1)}, {"id": "y"}]
    assert excerpts(json.dumps(documents).encode(), []) == [{"id": "y"}]


def test_what_it_holds_is_bounded_whatever_comes() -> None:
    for hostile in (b'{"choices":' + b"[" * 10**6, b'{"choices":[' + b"{}," * 10**6, b'{"' + b"k" * 10**6):
        excerpt = Excerpt(WANTED)
        excerpt.feed(hostile)
        assert len(excerpt._kept) <= MAX_KEPT_BYTES + 100
        assert len(excerpt._frames) <= 32
        assert len(excerpt._key) <= 64
