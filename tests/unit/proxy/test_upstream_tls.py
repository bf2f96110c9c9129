"""TLS to an upstream: its certificate must be of an authority we trust, in time, and of its name."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from infra.raw_upstream import Close, RawUpstream, Stall, ok, streamed
from infra.upstream_exchange import HEADERS, Reader, named, read, upstream_client
from infra.waiting import until
from tokentide_proxy.tls import verifying_context
from tokentide_proxy.upstream_client import UpstreamClient
from tokentide_proxy.upstream_errors import UpstreamTimeout, UpstreamUnreachable
from tokentide_proxy.upstream_limits import UpstreamLimits


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    certificate.configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def trusting(authority: trustme.CA, **limits: float) -> AsyncIterator[UpstreamClient]:
    context = verifying_context()
    authority.configure_trust(context)
    client = UpstreamClient(UpstreamLimits(**limits), tls=context)  # type: ignore[arg-type]  # seconds only
    await client.start()
    yield client
    await client.stop()
    assert client.connections == 0


async def test_a_trusted_upstream_is_told_the_name_and_speaks_http_1_1(authority: trustme.CA) -> None:
    names: list[str | None] = []
    context = server_context(authority.issue_cert("localhost"))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    spoken: list[str | None] = []

    async def note(writer: asyncio.StreamWriter) -> None:
        spoken.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())

    upstream = RawUpstream([note, ok()], [streamed(b"a", b"b")], tls=context)
    async with upstream, trusting(authority) as client:
        where = named(upstream.port, scheme="https", host="localhost")
        assert (await read(await client.send(where, b"POST", b"/", HEADERS, b"1"))).body == b"ok"
        assert (await read(await client.send(where, b"POST", b"/", HEADERS, b"1"))).body == b"ab"
    assert (names, spoken, upstream.accepts) == (["localhost"], ["http/1.1"], 1)


@pytest.mark.parametrize("fault", ["unknown authority", "another name", "expired"])
async def test_an_upstream_that_is_not_trusted_sees_no_request(authority: trustme.CA, fault: str) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = {
        "unknown authority": lambda: trustme.CA().issue_cert("localhost"),
        "another name": lambda: authority.issue_cert("elsewhere.example"),
        "expired": lambda: authority.issue_cert("localhost", not_before=past, not_after=past),
    }[fault]()
    upstream = RawUpstream([ok()], tls=server_context(certificate))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own complaint
    async with upstream, trusting(authority) as client:
        where = named(upstream.port, scheme="https", host="localhost")
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.send(where, b"POST", b"/", HEADERS, b"1")
        assert "elsewhere" not in str(caught.value)
        await until(lambda: client.connections == 0)
    assert upstream.requests == []


async def test_an_upstream_that_speaks_no_tls_is_unreachable(authority: trustme.CA) -> None:
    upstream = RawUpstream([ok()])
    async with upstream, trusting(authority, connect_s=1) as client:
        with pytest.raises((UpstreamUnreachable, UpstreamTimeout)):
            await client.send(named(upstream.port, scheme="https", host="localhost"), b"GET", b"/", HEADERS)
        await until(lambda: client.connections == 0)


async def test_an_upstream_that_does_not_shake_hands_is_given_up_in_time(authority: trustme.CA) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        async with trusting(authority, connect_s=0.1) as client:
            where = named(silent.getsockname()[1], scheme="https")
            with pytest.raises(UpstreamTimeout):
                await client.send(where, b"GET", b"/", HEADERS)
            accepted, _ = await loop.sock_accept(silent)
            with accepted:
                async with asyncio.timeout(1):
                    while await loop.sock_recv(accepted, 4096):
                        pass  # until it is closed from the other side


async def test_a_reader_that_leaves_closes_a_tls_connection_at_once(authority: trustme.CA) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na"
    upstream = RawUpstream([head, Stall()], tls=server_context(authority.issue_cert("localhost")))
    async with upstream, trusting(authority) as client:
        where = named(upstream.port, scheme="https", host="localhost")
        response = await client.send(where, b"GET", b"/", HEADERS)
        assert await anext(Reader(response)) == b"a"
        response.abort()
        async with asyncio.timeout(0.1):
            await upstream.gone.wait()


async def test_a_slow_reader_makes_a_tls_upstream_wait(authority: trustme.CA) -> None:
    written = 0
    piece = bytes(1 << 16)

    async def body(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        for _ in range(512):
            writer.write(piece)
            await writer.drain()
            written += len(piece)

    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (512 * len(piece))
    upstream = RawUpstream([head, body], [ok(b"next")], tls=server_context(authority.issue_cert("localhost")))
    async with upstream, trusting(authority) as client:
        where = named(upstream.port, scheme="https", host="localhost")
        response = await client.send(where, b"GET", b"/", HEADERS)
        last = -1
        while last != written:
            last = written
            await asyncio.sleep(0.1)
        assert last < 16 << 20
        assert len((await read(response)).body) == 512 * len(piece)
        assert (await read(await client.send(where, b"GET", b"/", HEADERS))).body == b"next"
    assert upstream.accepts == 1


async def test_a_body_that_ends_with_its_tls_connection_is_complete(authority: trustme.CA) -> None:
    context = server_context(authority.issue_cert("localhost"))
    upstream = RawUpstream([b"HTTP/1.1 200 OK\r\n\r\nwhole", Close()], tls=context)
    async with upstream, trusting(authority) as client:
        where = named(upstream.port, scheme="https", host="localhost")
        seen = await read(await client.send(where, b"GET", b"/", HEADERS))
    assert (seen.body, seen.error) == (b"whole", None)


async def test_a_tls_connection_that_was_closed_while_idle_costs_nothing_but_a_new_one(
    authority: trustme.CA,
) -> None:
    context = server_context(authority.issue_cert("localhost"))
    upstream = RawUpstream([ok()], [Close()], [ok(b"again")], tls=context)
    async with upstream, trusting(authority) as client:
        where = named(upstream.port, scheme="https", host="localhost")
        await read(await client.send(where, b"POST", b"/", HEADERS, b"1"))
        assert (await read(await client.send(where, b"POST", b"/", HEADERS, b"2"))).body == b"again"
    assert upstream.accepts == 2


def test_a_system_without_authorities_has_those_of_mozilla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)
    assert verifying_context().cert_store_stats()["x509_ca"] > 50
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert verifying_context().cert_store_stats()["x509_ca"] == 0


async def test_certificates_are_checked_by_default() -> None:
    context = verifying_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    upstream = RawUpstream([ok()], tls=server_context(trustme.CA().issue_cert("localhost")))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own complaint
    async with upstream, upstream_client() as client:
        with pytest.raises(UpstreamUnreachable):
            await client.send(named(upstream.port, scheme="https", host="localhost"), b"GET", b"/", HEADERS)
