import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common.errors import TokentideError
from tokentide_common.keys import mint_key
from tokentide_common.settings import effective, load
from tokentide_ingest.otlp.forward_collector import Collector
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_wire import HeaderRules, WireRequest, answer_headers
from tokentide_ingest.settings import IngestSettings

OWN_KEY = mint_key("m")[0].encode()
NAMES = st.sampled_from(
    [b"authorization", b"content-type", b"x-one", b"x-two", b"connection", b"te", b"host", b"x-tokentide-key"]
)
VALUES = st.sampled_from([b"a", b"Bearer other", b"Bearer " + OWN_KEY, b"x-two, close", b"gzip"])


@pytest.mark.parametrize(
    "header",
    [
        (b"x-tokentide-key", OWN_KEY),
        (b"authorization", b"Bearer " + OWN_KEY),
        (b"authorization", b"bearer  tt_m_mistyped"),
    ],
)
def test_our_own_key_never_goes_on(header: tuple[bytes, bytes]) -> None:
    assert HeaderRules().kept((header, (b"x-other", b"1"))) == ((b"x-other", b"1"),)


def test_the_clients_own_headers_are_kept_in_order_and_with_repeats() -> None:
    headers = (
        (b"user-agent", b"OTel-OTLP-Exporter-JavaScript/0.205.0"),
        (b"authorization", b"Basic Y29tcGFueQ=="),
        (b"x-tenant", b"a"),
        (b"content-encoding", b"gzip"),
        (b"x-tenant", b"b"),
    )
    assert HeaderRules().kept(headers) == headers


def test_headers_of_one_connection_stay_behind_and_so_do_those_that_it_names() -> None:
    headers = (
        (b"host", b"us"),
        (b"content-length", b"4"),
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"te", b"trailers"),
        (b"expect", b"100-continue"),
        (b"content-type", b"application/json"),
    )
    assert HeaderRules().kept(headers) == ((b"content-type", b"application/json"),)


def test_a_dropped_or_replaced_header_is_not_even_stored() -> None:
    rules = HeaderRules.read("Authorization=Bearer%20for,X-Scope=a%2Cb", ["Cookie"])
    assert rules.add == ((b"authorization", b"Bearer for"), (b"x-scope", b"a,b"))
    assert rules.kept(((b"authorization", b"Basic x"), (b"cookie", b"c"), (b"x-scope", b"z"))) == ()


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8).map(tuple))
def test_what_is_kept_is_kept_again_and_holds_no_key(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    rules = HeaderRules()
    kept = rules.kept(headers)
    assert rules.kept(kept) == kept
    assert all(
        OWN_KEY not in value or name not in (b"authorization", b"x-tokentide-key") for name, value in kept
    )


def test_an_answer_keeps_what_is_the_clients_and_gets_the_length_of_its_body() -> None:
    headers = ((b"date", b"x"), (b"transfer-encoding", b"chunked"), (b"x-a", b"1"), (b"retry-after", b"7"))
    kept = ((b"x-a", b"1"), (b"retry-after", b"7"))
    assert answer_headers(headers, b"four", 200) == (*kept, (b"content-length", b"4"))
    assert answer_headers(headers, b"", 204) == kept


@pytest.mark.parametrize(
    ("settings", "path", "query", "url"),
    [
        ({"url": "http://c:4318"}, "/v1/logs", "", "http://c:4318/v1/logs"),
        ({"url": "http://c:4318/otlp/"}, "/v1/logs", "a=%2F", "http://c:4318/otlp/v1/logs?a=%2F"),
        ({"url": "http://c", "logs_url": "http://d/x"}, "/v1/logs", "", "http://d/x"),
        ({"logs_url": "http://d/x?k=1"}, "/v1/logs", "a=2", "http://d/x?k=1&a=2"),
    ],
)
def test_a_request_goes_to_its_path_at_the_collector(
    settings: dict[str, str], path: str, query: str, url: str
) -> None:
    named = {f"otlp_forward_{name}": value for name, value in settings.items()}
    collector = Collector(ForwardSettings(**named), ())
    assert collector.url("logs", WireRequest("POST", path, query, (), b"")) == url


def test_only_signals_with_an_address_are_wanted() -> None:
    collector = Collector(ForwardSettings(otlp_forward_logs_url="http://d/x"), ())
    assert collector.takes("logs", grpc=True)
    assert not collector.takes("traces", grpc=False)
    over_grpc = Collector(ForwardSettings(otlp_forward_grpc_url="grpc://c:4317"), ())
    assert over_grpc.takes("traces", grpc=True)
    assert not over_grpc.takes("traces", grpc=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL", "collector:4318"),
        ("URL", "http://user:password@collector:4318"),
        ("GRPC_URL", "http://collector:4317"),
        ("HEADERS", "authorization"),
        ("HEADERS", "a=b%0d%0aevil: 1"),
        ("MODE", "copy"),
    ],
)
def test_a_mistake_in_the_settings_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(TokentideError) as caught:
        load(IngestSettings, {f"TOKENTIDE_OTLP_FORWARD_{name}": value})
    assert list(caught.value.fields) == [f"TOKENTIDE_OTLP_FORWARD_{name}"]


def test_the_collectors_credentials_are_masked_where_settings_are_shown() -> None:
    settings = load(IngestSettings, {"TOKENTIDE_OTLP_FORWARD_HEADERS": "authorization=Basic abc"})
    assert effective(settings)["TOKENTIDE_OTLP_FORWARD_HEADERS"] == "***"
