"""Exchanges of real clients with the server whose account of them is `manifest.json`."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

DATA: Final = Path(__file__).parents[1] / "data"
_DIALECTS: Final[dict[str, Literal["anthropic", "openai", "gemini"]]] = {
    "claude-code": "anthropic",
    "opencode": "anthropic",
    "codex": "openai",
    "gemini-cli": "gemini",
}


class Exchange(NamedTuple):
    """A request and its answer, as a recording proxy saw them. Names of headers are in lower case."""

    name: str
    dialect: Literal["anthropic", "openai", "gemini"]
    method: str
    path: str
    request_headers: list[tuple[bytes, bytes]]
    request_body: bytes
    """As far as it was kept: never what was asked."""
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    """Still content-encoded."""

    def truth(self) -> dict[str, Any] | None:
        """Return what the server says of this request; None for one that it does not know as a call."""
        ids = {value.decode() for key, value in self.headers if key in (b"request-id", b"x-request-id")}
        said = _manifest(self.name.rpartition("/")[0])["upstream_requests"]
        return next(
            (
                one
                for one in said
                if one.get("request_id") in ids
                or (one["api"] == "gemini" and one["response_id"].encode() in self.body)
            ),
            None,
        )


def exchanges() -> list[Exchange]:
    """Return all that is recorded, in order."""
    return [_load(path) for path in sorted(DATA.glob("*/*/http/*.json"))]


def _load(path: Path) -> Exchange:
    client, run = path.parts[-4:-2]
    said = json.loads(path.read_text())
    encoded = said.get("response_body_base64")
    return Exchange(
        name=f"{client}/{run}/{path.stem}",
        dialect=_DIALECTS[client],
        method=said["method"],
        path=said["path"],
        request_headers=_headers(said["request_headers"]),
        request_body=json.dumps(said["request_body"]).encode() if said.get("request_body") else b"",
        status=said["status"],
        headers=_headers(said["response_headers"]),
        body=base64.b64decode(encoded) if encoded else said["response_body"].encode(),
    )


def _headers(pairs: list[list[str]]) -> list[tuple[bytes, bytes]]:
    return [(key.lower().encode(), value.encode()) for key, value in pairs]


@cache
def _manifest(run: str) -> dict[str, Any]:
    return json.loads((DATA / run / "manifest.json").read_text())
