"""What goes on of headers, and what belongs to one connection or to us."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokentide_proxy.exchange import Headers, Upstream
from tokentide_proxy.headers import request_headers, response_headers

HERE = Upstream("", "anthropic", "anthropic", "https", "api.example", 443)
NAMES = st.from_regex(r"[a-z][a-z-]{0,11}", fullmatch=True).map(str.encode)
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=8)), max_size=12)
OF_ONE_CONNECTION = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"),
    *(b"upgrade", b"proxy-authorization", b"proxy-authenticate"),
}


def test_the_host_is_the_upstreams_own() -> None:
    def host(**other: object) -> bytes:
        known = {"name": "", "dialect": "openai", "provider": "", "scheme": "https", "host": "h", "port": 443}
        upstream = Upstream(**{**known, **other})  # type: ignore[arg-type]  # a test names what it changes
        return dict(request_headers([(b"host", b"proxy")], upstream))[b"host"]

    assert (host(), host(port=8443), host(scheme="http", port=80)) == (b"h", b"h:8443", b"h")
    assert host(host="::1", port=9) == b"[::1]:9"


def test_what_a_connection_lists_stays_on_it_but_for_the_length() -> None:
    headers: Headers = [
        (b"connection", b"Close, X-One"),
        (b"x-one", b"1"),
        (b"connection", b" x-two ,Content-Length"),
        (b"x-two", b"2"),
        (b"x-three", b"3"),
        (b"content-length", b"4"),
    ]
    kept = [(b"x-three", b"3"), (b"content-length", b"4")]
    assert request_headers(headers, HERE) == [(b"host", b"api.example"), *kept]
    assert response_headers(headers, 200) == kept


@given(FIELDS)
def test_everything_else_goes_on_in_its_order(headers: Headers) -> None:
    going = [
        h for h in headers if h[0] not in OF_ONE_CONNECTION and h[0] not in {b"host", b"forwarded", b"expect"}
    ]
    assert request_headers(headers, HERE)[1:] == going or b"connection" in dict(headers)
    assert response_headers(going, 200) == going


def test_what_is_for_us_and_what_was_added_on_the_way_goes_nowhere() -> None:
    ours = [b"x-tokentide-key", b"x-tokentide-anything", b"x-cua-user", b"x-forwarded-for", b"forwarded"]
    assert request_headers([(name, b"v") for name in ours], HERE) == [(b"host", b"api.example")]


def test_an_answer_that_has_no_body_has_no_length() -> None:
    assert response_headers([(b"content-length", b"5"), (b"etag", b"x")], 304) == [(b"etag", b"x")]
