"""Questions to, and changes through, the account routes of the query API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from tokentide.connection import Connection
from tokentide.failures import Failure
from tokentide.http import open_client, refusal, unreachable

_TIMEOUT_S: Final = 15.0
_PAGE: Final = "500"

Answer = dict[str, Any]


class AccountRequests:
    """Requests with the key of one connection; without a key, as a stranger."""

    def __init__(self, connection: Connection, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    def get(self, path: str, **parameters: str) -> Answer:
        """Return one thing. Raises `Failure`."""
        return self._decoded(self._done("GET", path, params=parameters))

    def every(self, path: str, **parameters: str) -> Iterator[Answer]:
        """Yield all items of a list, page by page. Raises `Failure`."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.get(path, limit=_PAGE, **parameters, **({"cursor": cursor} if cursor else {}))
            yield from page["items"]
            cursor = page["next_cursor"]

    def post(self, path: str, body: Answer) -> Answer:
        """Return what a request has made. Raises `Failure`."""
        return self._decoded(self._done("POST", path, json=body))

    def patch(self, path: str, body: Answer) -> Answer:
        """Change a thing, whatever it is now. Raises `Failure`."""
        return self._decoded(self._done("PATCH", path, json=body, headers={"if-match": "*"}))

    def delete(self, path: str) -> None:
        """Remove a thing. Raises `Failure`."""
        self._done("DELETE", path)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 -- httpx's own
        """Return the answer to a request, whatever it says. Raises `Failure` without any."""
        with open_client(self._connection, timeout_s=self._timeout_s) as client:
            try:
                return client.request(method, f"/api/v1/{path}", **options)
            except httpx.TransportError as error:
                raise unreachable(self._connection, error) from None

    def _done(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 -- as above
        answer = self.send(method, path, **options)
        if not answer.is_success:
            raise refusal(answer)
        return answer

    def _decoded(self, answer: httpx.Response) -> Answer:
        try:
            return msgspec.json.decode(answer.content, type=Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Failure(
                f"{self._connection.url} does not answer as a Tokentide server does", hint="check the address"
            ) from None


def segment(text: str) -> str:
    """Return an id as one part of a path."""
    return quote(text, safe="")
