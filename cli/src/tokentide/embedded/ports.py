"""Where the embedded system listens, and a plain word when somebody else listens there."""

from __future__ import annotations

import socket

import msgspec

from tokentide.failures import Failure


class Ports(msgspec.Struct, frozen=True):
    """Where to listen on the loopback interface; 0 is any free port."""

    ingest: int
    otlp_grpc: int
    proxy: int
    query: int
    broker: int


def refuse_taken(ports: Ports) -> None:
    """Raise `Failure` naming the flag of a port that is taken, or that is given twice.

    Asked before anything starts: a client of ours would take whoever listens there for our own broker.
    """
    probes: list[socket.socket] = []
    try:
        for name, port in msgspec.structs.asdict(ports).items():
            if port:
                probes.append(_probe(f"--{name.replace('_', '-')}-port", port))
    finally:
        for probe in probes:
            probe.close()


def _probe(flag: str, port: int) -> socket.socket:
    probe = socket.socket()
    # Connections of a system that ran a moment ago may linger on its port.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
        probe.listen()
    except OSError as exc:
        probe.close()
        raise Failure(
            f"cannot listen on port {port} ({flag}): {exc.strerror}",
            hint=f"stop what listens there, or choose another port with {flag} (0: any free one)",
        ) from None
    return probe
