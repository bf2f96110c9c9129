"""What captured clients sent over OTLP, sent again: the same bytes to a running system, with its keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import httpx

from infra.manifests import RUNS_DIR

DATA_DIR: Final = RUNS_DIR.parent
_AT_ONCE: Final = 16
_OWN_HEADERS: Final = {"authorization", "host", "content-length", "connection", "transfer-encoding"}


class Payload(NamedTuple):
    """One export request of a captured run."""

    run: str
    name: str
    transport: str
    path: str
    headers: dict[str, str]
    body: bytes


def payloads(run: str, client: str = "claude-code") -> list[Payload]:
    """Return every export of a run in the order in which the client sent it."""
    folder = DATA_DIR / client / run / "otlp"
    return [_payload(run, path) for path in sorted(folder.glob("*.meta.json"))]


def _payload(run: str, path: Path) -> Payload:
    meta: dict[str, Any] = json.loads(path.read_text())
    headers = {name.lower(): value for name, value in meta["headers"]}
    kept = {name: value for name, value in headers.items() if name not in _OWN_HEADERS}
    name = path.name.removesuffix(".meta.json")
    body = path.with_name(f"{name}.bin").read_bytes()
    return Payload(run, name, meta["transport"], meta["path"], kept, body)


class Exporter:
    """Sends exports to the doors of a system, HTTP to HTTP and gRPC to gRPC."""

    def __init__(self, ready: dict[str, Any], key: str) -> None:
        self._key = {"authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=ready["ingest"], timeout=60, verify=False)
        self._channel = grpc.insecure_channel(ready["otlp_grpc"].removeprefix("http://"))

    def send(self, payload: Payload) -> None:
        """Send one export, which must be accepted whole."""
        if payload.transport == "grpc":
            answer = self._channel.unary_unary(payload.path)(
                payload.body, metadata=tuple(self._key.items()), timeout=60
            )
            assert answer == b""
            return
        got = self._client.post(payload.path, content=payload.body, headers=payload.headers | self._key)
        assert got.status_code == 200, got.text
        assert got.content in (b"", b"{}"), got.content
        assert got.headers["content-type"].partition(";")[0] == payload.headers["content-type"]

    def send_all(self, sent: Iterable[Payload]) -> None:
        """Send exports in no certain order, many at a time: embedded, each waits until it is stored."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(self.send, sent))

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._channel.close()
