"""Who may pass: by where the key is, what goes to the provider, and that no key of ours ever does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import KeyDirectory, create_organization, issue_key, revoke_key
from tokentide_common.database import Engine, open_database
from tokentide_common.errors import Unauthorized
from tokentide_common.provider_credentials import CredentialDirectory, Vault, keep_credential
from tokentide_proxy.admission import Gate
from tokentide_proxy.exchange import Admission, Dialect, Headers, Upstream

SECRET = "s" * 40
PROVIDER = b"sk-ant-provider"
FAR, NEAR = "203.0.113.7", "127.0.0.1"


def upstream(dialect: Dialect = "anthropic") -> Upstream:
    return Upstream("" if dialect == "anthropic" else dialect, dialect, dialect, "https", "h", 443)


class World(NamedTuple):
    engine: Engine
    org_id: str
    secret: str
    key_id: str
    directory: KeyDirectory
    gate: Gate
    near: Gate

    async def admit(
        self, headers: Headers, *, dialect: Dialect = "anthropic", target: bytes = b"/v1/messages"
    ) -> Admission:
        return await self.gate.admit(upstream(dialect), target, headers, FAR)

    @property
    def ours(self) -> bytes:
        return self.secret.encode()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    engine = open_database(migrated_sqlite(tmp_path / "accounts.db"))
    org_id = create_organization(engine, "o")
    secret, record = issue_key(engine, org_id, "p", user_id="dev")
    vault = Vault(SECRET)
    for name in ("anthropic", "openai", "gemini"):
        keep_credential(engine, vault, org_id, name, f"sk-kept-{name}")
    keys, kept = KeyDirectory(engine), CredentialDirectory(engine, vault)
    await keys.start()
    await kept.start()
    gate = Gate(lambda: keys, kept, loopback_key="")
    near = Gate(lambda: keys, kept, loopback_key=secret)
    yield World(engine, org_id, secret, record.key_id, keys, gate, near)
    await keys.stop()
    await kept.stop()
    engine.dispose()


async def test_a_key_in_its_own_header_leaves_the_clients_credentials_as_they_are(world: World) -> None:
    theirs = [(b"authorization", b"Bearer sk-ant-oat01-x"), (b"anthropic-beta", b"b")]
    passed = await world.admit([(b"x-tokentide-key", world.ours), *theirs])
    assert (passed.mode, passed.headers, passed.key.user_id) == ("passthrough", theirs, "dev")


@pytest.mark.parametrize(
    ("dialect", "header", "replaced"),
    [
        ("anthropic", (b"x-api-key", b"%s"), (b"x-api-key", b"sk-kept-anthropic")),
        ("anthropic", (b"authorization", b"Bearer %s"), (b"x-api-key", b"sk-kept-anthropic")),
        ("openai", (b"authorization", b"bearer %s"), (b"authorization", b"Bearer sk-kept-openai")),
        ("gemini", (b"x-goog-api-key", b"%s"), (b"x-goog-api-key", b"sk-kept-gemini")),
        ("anthropic", (b"x-tokentide-key", b"%s"), (b"x-api-key", b"sk-kept-anthropic")),
    ],
)
async def test_a_key_in_place_of_the_providers_is_replaced_by_the_one_that_is_kept(
    world: World, dialect: Dialect, header: tuple[bytes, bytes], replaced: tuple[bytes, bytes]
) -> None:
    sent = (header[0], header[1] % world.ours)
    passed = await world.admit([(b"accept", b"*/*"), sent], dialect=dialect)
    assert (passed.mode, passed.headers) == ("managed", [(b"accept", b"*/*"), replaced])


async def test_a_key_in_the_query_is_replaced_and_the_rest_of_the_query_stays(world: World) -> None:
    target = b"/v1beta/models/m:generateContent?alt=sse&key=" + world.ours + b"&x=%2F"
    passed = await world.admit([], dialect="gemini", target=target)
    assert passed.target == b"/v1beta/models/m:generateContent?alt=sse&x=%2F"
    assert passed.headers == [(b"x-goog-api-key", b"sk-kept-gemini")]


async def test_without_a_kept_key_a_managed_call_is_refused_by_name(world: World) -> None:
    other = Upstream("groq", "openai", "groq", "https", "h", 443)
    with pytest.raises(Unauthorized, match="no key for groq") as refused:
        await world.gate.admit(other, b"/", [(b"authorization", b"Bearer " + world.ours)], FAR)
    assert refused.value.stable_code == "no_provider_key"


@pytest.mark.parametrize(
    "headers",
    [[], [(b"x-api-key", PROVIDER)], [(b"x-tokentide-key", b"tt_p_wrong")], [(b"x-tokentide-key", PROVIDER)]],
    ids=["nothing", "a provider's key alone", "a key nobody has", "a provider's key as ours"],
)
async def test_strangers_do_not_pass(world: World, headers: Headers) -> None:
    with pytest.raises(Unauthorized):
        await world.admit(headers)


async def test_a_key_of_another_kind_does_not_pass(world: World) -> None:
    other, _ = issue_key(world.engine, world.org_id, "a")
    with pytest.raises(Unauthorized):
        await world.admit([(b"x-tokentide-key", other.encode()), (b"x-api-key", PROVIDER)])


async def test_a_revoked_key_does_not_pass(world: World) -> None:
    revoke_key(world.engine, world.org_id, world.key_id)
    await world.directory.refresh()
    with pytest.raises(Unauthorized):
        await world.admit([(b"x-tokentide-key", world.ours), (b"x-api-key", PROVIDER)])


async def test_on_this_machine_the_user_needs_no_key_where_that_is_allowed(world: World) -> None:
    theirs = [(b"x-api-key", PROVIDER)]
    passed = await world.near.admit(upstream(), b"/v1/messages", theirs, NEAR)
    assert (passed.mode, passed.headers, passed.key.user_id) == ("local", theirs, "dev")
    for headers, peer in ((theirs, FAR), ([*theirs, (b"x-forwarded-for", b"127.0.0.1")], NEAR)):
        with pytest.raises(Unauthorized):
            await world.near.admit(upstream(), b"/", headers, peer)


@pytest.mark.parametrize("place", ["header", "api key", "bearer", "goog", "query", "later in the query"])
async def test_our_key_never_reaches_a_provider(world: World, place: str) -> None:
    both: Headers = [(b"x-tokentide-key", world.ours), (b"authorization", b"Bearer sk-theirs")]
    extra: dict[str, Headers] = {
        "api key": [(b"x-api-key", world.ours)],
        "bearer": [(b"authorization", b"Bearer " + world.ours)],
        "goog": [(b"x-goog-api-key", world.ours)],
    }
    query = {"query": b"key=" + world.ours, "later in the query": b"key=theirs&&a=1&key=" + world.ours}
    target = b"/v1?" + query[place] if place in query else b"/v1"
    passed = await world.admit([*both, *extra.get(place, [])], target=target)
    assert passed.target == (b"/v1?key=theirs&&a=1" if place == "later in the query" else b"/v1")
    assert world.ours not in passed.target + b"".join(value for _, value in passed.headers)
