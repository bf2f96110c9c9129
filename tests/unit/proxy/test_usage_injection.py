"""Asking for usage in a request: as text, minimally, and not at all where anything is unexpected."""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide_proxy.usage.injection import inject_include_usage

KEYS = st.sampled_from(["model", "messages", "stream_options", "include_usage", "stream", 'a"b', "ü"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("body", "asking"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b' {\n "stream" : true}', b' {"stream_options":{"include_usage":true},\n "stream" : true}'),
        (
            b'{"stream":true,"stream_options":null,"n":1}',
            b'{"stream":true,"stream_options":{"include_usage":true},"n":1}',
        ),
        (
            b'{"stream_options" : { } ,"stream":true}',
            b'{"stream_options" : {"include_usage":true } ,"stream":true}',
        ),
        (
            b'{"stream":true,"stream_options":{"include_obfuscation":false}}',
            b'{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}',
        ),
        (
            b'{"stream":true,"stream_options":{"include_usage": false, "a":[1]}}',
            b'{"stream":true,"stream_options":{"include_usage": true, "a":[1]}}',
        ),
        (
            b'{"a":[{"stream_options":{}, "x":"\\"stream_options\\":{"}],"stream_options":{},"stream":true}',
            b'{"a":[{"stream_options":{}, "x":"\\"stream_options\\":{"}],'
            b'"stream_options":{"include_usage":true},"stream":true}',
        ),
    ],
)
def test_it_is_written_where_it_belongs_and_every_other_byte_stays(body: bytes, asking: bytes) -> None:
    assert inject_include_usage(body) == asking


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream":false}',
        b'{"model":"m"}',
        b'{"stream":1}',
        b'{"stream":"true"}',
        b'{"stream":true',
        b'{"stream":true}x',
        b'{"stream":true,"stream_options":"all"}',
        b'{"stream":true,"stream_options":[]}',
        b'{"stream":true,"stream_options":{"include_usage":"yes"}}',
        b'{"stream":true,"stream_options":{},"stream_options":{}}',
        b'{"stream":true,"stream_options":{"include_usage":null,"include_usage":false}}',
        b'{"stream":true,"stream\\u005foptions":{}}',
        b'{"stream":true,"a":{"stream_options":{}},"stream\\u005foptions":{}}',
        b'{"stream":true,"stream_options":{},"stream\\u005foptions":{}}',
        b'\xef\xbb\xbf{"stream":true}',
        '{"stream":true}'.encode("utf-16"),
        b"[]",
        b"null",
        b"",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_is_not_exactly_as_expected_is_left_alone(body: bytes) -> None:
    assert inject_include_usage(body) is None


def test_a_long_body_is_searched_and_not_walked_through() -> None:
    many = b'{"a":[' + b'{"b":"c"},' * 400_000 + b'0],"stream":true,"stream_options":{"a":1}}'
    started = thread_time()
    asking = inject_include_usage(many)
    assert thread_time() - started < 0.3
    assert asking is not None
    assert asking.endswith(b'"stream_options":{"include_usage":true,"a":1}}')


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_the_request_means_the_same_but_for_the_asking(
    request: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    request["stream"] = True
    body = json.dumps(request, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    asking = inject_include_usage(body)
    options = {} if (said := request.get("stream_options")) is None else said
    if not isinstance(options, dict) or json.dumps(options.get("include_usage")) not in ("null", "false"):
        assert asking is None
        return
    assert asking is not None
    expected = {**request, "stream_options": {**options, "include_usage": True}}
    assert json.loads(asking) == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ truestam_opin').map(str.encode))
def test_garbage_is_left_alone(garbage: bytes) -> None:
    assert inject_include_usage(garbage) is None or b'"stream"' in garbage
