"""OTLP over HTTP: three routes, protobuf or JSON, answered in the encoding of the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Receive

from tokentide_common.errors import InvalidRequest, UnsupportedEncoding
from tokentide_ingest.body import read_body
from tokentide_ingest.decompress import ENCODINGS
from tokentide_ingest.limits import ByteShare
from tokentide_ingest.otlp.answers import (
    MEDIA_TYPES,
    Encoding,
    Outcome,
    encoded,
    encoding_of,
    refusal,
    status,
    success,
)
from tokentide_ingest.otlp.forward_wire import WireAnswer, WireRequest
from tokentide_ingest.otlp.reception import Reception, Visit
from tokentide_ingest.otlp.signals import ADDRESSES, Address
from tokentide_ingest.otlp.unpacking import decoder_for, decompressed, required_encoding, unpacked
from tokentide_ingest.routes import joined_headers


class HttpDoor:
    """The door for exports over HTTP."""

    def __init__(self, reception: Reception, *, max_bytes: int, read_timeout_s: float) -> None:
        self._reception = reception
        self._max_bytes = max_bytes
        self._read_timeout_s = read_timeout_s

    def routes(self) -> list[HTTPRouteHandler]:
        """Return the handler of each signal."""
        return [self._route(address) for address in ADDRESSES]

    def _route(self, address: Address) -> HTTPRouteHandler:
        # The body is read and bounded by ourselves.
        @post(
            address.path,
            request_max_body_size=None,
            summary=f"Take an OTLP export of {address.signal}",
            operation_id=f"export_{address.signal}",
        )
        async def export(request: Request[Any, Any, Any]) -> ASGIResponse:
            return await self._export(address, request)

        return export

    async def _export(self, address: Address, request: Request[Any, Any, Any]) -> ASGIResponse:
        visit = Visit(address, "http")
        headers = joined_headers(request.scope["headers"])
        try:
            # Who it is comes before what it says: a stranger's body is never read.
            await self._reception.admit(visit, headers, _peer(request.scope))
            with self._reception.budget.share() as share:
                take = self._pass_on if self._reception.forwards(visit) else self._take
                response = await take(visit, request, headers, share)
        except Exception as error:  # every error is a Status here, also the unforeseen
            self._reception.failed(visit, error)
            response = _refused(error, encoding_of(headers.get("content-type", "")) or "json")
        self._reception.finished(visit, str(response.status_code))
        return response

    async def _take(
        self, visit: Visit, request: Request[Any, Any, Any], headers: Mapping[str, str], share: ByteShare
    ) -> ASGIResponse:
        encoding = required_encoding(headers.get("content-type", ""))
        decoder = decoder_for(headers.get("content-encoding", ""), self._max_bytes)
        body = decompressed(await self._read(request.receive, headers, share), decoder)
        if decoder is not None:
            share.grow(len(body))
        answer = self._reception.respond(visit, body, encoding)
        del body  # whoever still needs it has it
        return _answered(visit, await answer, encoding)

    async def _pass_on(
        self, visit: Visit, request: Request[Any, Any, Any], headers: Mapping[str, str], share: ByteShare
    ) -> ASGIResponse:
        """Take a request that a collector behind us gets too, also where we cannot read it ourselves."""
        wire = _wire_request(request.scope, await self._read(request.receive, headers, share))
        if self._reception.relays:
            return _handed_on(await self._reception.relay(visit, wire))
        try:
            body, encoding = unpacked(wire, self._max_bytes)
        except InvalidRequest:
            await self._reception.mirror(visit, wire)
            raise
        if body is not wire.body:
            share.grow(len(body))
        answer = self._reception.respond(visit, body, encoding, wire)
        del body, wire  # whoever still needs them has them
        return _answered(visit, await answer, encoding)

    async def _read(self, receive: Receive, headers: Mapping[str, str], share: ByteShare) -> bytes:
        """Return the body as it was sent."""
        length = {"content-length": headers.get("content-length", "")}
        return bytes(
            await read_body(
                receive, length, hold=share.grow, timeout_s=self._read_timeout_s, limit=self._max_bytes
            )
        )


def _peer(scope: HTTPScope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _wire_request(scope: HTTPScope, raw: bytes) -> WireRequest:
    query = scope["query_string"].decode("latin-1")
    return WireRequest(scope["method"], scope["path"], query, tuple(scope["headers"]), raw)


def _answered(visit: Visit, outcome: Outcome, encoding: Encoding) -> ASGIResponse:
    return ASGIResponse(
        body=success(visit.address, outcome, encoding), media_type=MEDIA_TYPES[encoding], status_code=200
    )


def _handed_on(answer: WireAnswer) -> ASGIResponse:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
    return ASGIResponse(body=answer.body, status_code=answer.status, headers=headers)


def _refused(error: Exception, encoding: Encoding) -> ASGIResponse:
    refused = refusal(error)
    headers = {}
    if refused.retry_after_s:
        headers["retry-after"] = str(refused.retry_after_s)
    if refused.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, UnsupportedEncoding):
        headers["accept"] = ", ".join(MEDIA_TYPES.values())
        headers["accept-encoding"] = ", ".join(ENCODINGS)  # RFC 9110, section 15.5.16
    if getattr(error, "stable_code", "") == "body_timeout":
        headers["connection"] = "close"  # the rest may drip in for ever
    return ASGIResponse(
        body=encoded(status(refused), encoding),
        status_code=refused.http_status,
        headers=headers,
        media_type=MEDIA_TYPES[encoding],
    )
