"""Which peers are on this machine: judged by the connection's address alone."""

import pytest

from tokentide_common.local_peer import is_local
from tokentide_ingest.otlp.grpc_server import _peer


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses_are_local(peer: str) -> None:
    assert is_local({}, peer)


@pytest.mark.parametrize(
    "peer",
    ["", "localhost", "10.0.0.7", "192.168.1.2", "::ffff:10.0.0.7", "fe80::1", "0.0.0.0", "testclient"],
)
def test_everything_else_is_not(peer: str) -> None:
    assert not is_local({}, peer)


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("ipv4:127.0.0.1:50123", "127.0.0.1"),
        ("ipv6:%5B::1%5D:50123", "::1"),
        ("ipv6:[2001:db8::7]:50123", "2001:db8::7"),
        ("unix:/tmp/socket", ""),
        ("", ""),
    ],
)
def test_the_peer_of_a_grpc_call_is_its_address(named: str, address: str) -> None:
    assert _peer(named) == address
