"""How fast who may ask, by kind of route; and what every answer tells browsers."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.testing import TestClient

from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import KeyDirectory, create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.store import Store
from tokentide_query_api.admission_pace import AdmissionPace
from tokentide_query_api.app import create_app
from tokentide_query_api.client_address import client_address, neighbourhood
from tokentide_query_api.rate_limits import LocalBuckets, RateLimits, kind_of
from tokentide_query_api.settings import QuerySettings


@pytest.fixture
def serve(tmp_path):
    """Return a function that serves with some settings and gives a client and a key."""
    opened = []

    def start(**settings: Any) -> tuple[TestClient[Any], str]:
        engine = open_database(migrated_sqlite(tmp_path / "a.db"))
        org_id = create_organization(engine, "A")
        secret, _ = issue_key(engine, org_id, "a")
        keys = KeyDirectory(engine)
        store = Store("clickhouse://127.0.0.1:9/away")  # nothing here needs it
        app = create_app(QuerySettings(**settings), store=store, engine=engine)
        client = TestClient(app)
        opened.append((client.__enter__(), engine, keys))
        return client, secret

    yield start
    for client, engine, _ in opened:
        client.__exit__(None, None, None)
        engine.dispose()


def bearer(secret: str, address: str = "") -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"} | ({"x-forwarded-for": address} if address else {})


@pytest.mark.parametrize(
    ("method", "path", "query", "accept", "kind"),
    [
        ("POST", "/api/v1/auth/login", "", "", "auth"),
        ("GET", "/api/v1/auth/oidc/x/start", "", "", "auth"),
        ("GET", "/api/v1/auth/me", "", "", "read"),
        ("GET", "/api/v1/calls", "", "application/json", "read"),
        ("GET", "/api/v1/calls", "format=csv", "", "export"),
        ("GET", "/api/v1/calls", "", "application/vnd.apache.parquet", "export"),
        ("GET", "/api/v1/calls", "format=json", "text/csv", "read"),
        ("GET", "/api/v1/export/calls", "", "", "export"),
        ("DELETE", "/api/v1/keys/key_1", "", "", "write"),
    ],
)
def test_each_kind_of_route_has_its_own_pace(method, path, query, accept, kind):
    assert kind_of(method, path, query, accept) == kind


@pytest.mark.parametrize("shared", [False, True])
def test_who_asks_too_fast_is_told_when_to_come_back_and_others_go_on(serve, shared):
    client, secret = serve(
        rate_read_per_minute=3, rate_export_per_minute=1, rate_limits_shared=shared, trusted_proxies=1
    )
    wrong = "/api/v1/usage/summary?no=such"
    said = [client.get(wrong, headers=bearer(secret, "192.0.2.1")).status_code for _ in range(4)]
    assert said == [400, 400, 400, 429]
    refused = client.get(wrong, headers=bearer(secret, "192.0.2.1"))
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    # Another kind of route, and somebody else's address, are counted apart; the key is not.
    assert client.get(f"{wrong}&format=csv", headers=bearer(secret, "192.0.2.1")).status_code == 400
    assert client.get(wrong, headers=bearer(secret, "192.0.2.2")).status_code == 429
    assert client.get(wrong, headers=bearer("nothing", "192.0.2.2")).status_code == 401


def test_guessing_is_counted_by_address_whatever_the_credentials(serve):
    client, _ = serve(rate_auth_per_minute=2)
    said = [client.post("/api/v1/auth/login", json={}, headers=bearer(f"x{n}")).status_code for n in range(4)]
    assert 429 not in said[:2]
    assert said[2:] == [429, 429]


def test_an_address_is_the_connections_or_what_our_own_proxies_say_of_it():
    assert client_address("10.0.0.1", "1.2.3.4", 0) == "10.0.0.1"
    assert client_address("10.0.0.1", "6.6.6.6, 1.2.3.4", 1) == "1.2.3.4"
    assert client_address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.9", 2) == "1.2.3.4"
    assert client_address("10.0.0.1", "1.2.3.4", 2) == "10.0.0.1"
    assert client_address("10.0.0.1", "<script>", 1) == "10.0.0.1"
    assert neighbourhood("2001:db8:1:2:3::4") == neighbourhood("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert neighbourhood("::ffff:192.0.2.1") == "192.0.2.1"


async def test_a_clients_own_line_of_forwarded_addresses_is_not_taken_for_our_proxys():
    limits = RateLimits(QuerySettings(), LocalBuckets())
    taken_for = []

    async def note(scope: Any, _receive: Any, _send: Any) -> None:
        taken_for.append(scope["client"][0])

    scope: Any = {
        **{"type": "http", "method": "POST", "path": "/api/v1/auth/login", "query_string": b""},
        "client": ("10.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"198.51.100.7"), (b"x-forwarded-for", b"192.0.2.1")],
    }
    nothing: Any = None
    await AdmissionPace(lambda: limits, 1).handle(scope, nothing, nothing, note)
    assert taken_for == ["192.0.2.1"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/no/such/page", "/api/v1/usage/summary", "/schema"])
def test_every_answer_has_the_security_headers(serve, path):
    client, _ = serve()
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "no-store" in headers["cache-control"]
    assert "strict-transport-security" not in headers
    assert "access-control-allow-origin" not in headers


def test_https_is_demanded_only_where_it_is_served(serve):
    client, _ = serve(public_url="https://tokentide.example")
    assert "max-age=" in client.get("/").headers["strict-transport-security"]


def test_only_listed_origins_may_read_answers(serve):
    client, _ = serve(cors_origins=("https://ours.example",))
    allowed = client.get("/healthz", headers={"origin": "https://ours.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://ours.example"
    refused = client.get("/healthz", headers={"origin": "https://theirs.example"})
    assert "access-control-allow-origin" not in refused.headers


def test_a_body_beyond_a_megabyte_is_refused(serve):
    client, secret = serve()
    answer = client.post("/api/v1/auth/login", content=b"x" * 1_000_001, headers=bearer(secret))
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
