"""OTLP over gRPC, in the event loop of the service. Messages are raw bytes: they are decoded once, by us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import grpc
import grpc.aio
import msgspec

from tokentide_common.errors import InvalidRequest, TokentideError
from tokentide_ingest.otlp.answers import refusal, status, success
from tokentide_ingest.otlp.forward_wire import WireAnswer, WireRequest
from tokentide_ingest.otlp.reception import Reception, Visit
from tokentide_ingest.otlp.signals import ADDRESSES, Address
from tokentide_ingest.otlp.unpacking import unpacked_grpc

# Messages that may be under way at once: the library holds them, and our budget learns of them only whole.
_READING: Final = 16
_IDENTITY_AND_GZIP: Final = 0b101
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
Context = grpc.aio.ServicerContext[bytes, bytes]


class _Answer(msgspec.Struct, frozen=True):
    """The end of a call: a message, or a status other than OK."""

    message: bytes = b""
    code: int = 0
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()


class GrpcDoor:
    """The door for exports over gRPC."""

    def __init__(self, reception: Reception, *, max_bytes: int, read_timeout_s: float) -> None:
        self._reception = reception
        self._max_bytes = max_bytes
        self._read_timeout_s = read_timeout_s
        self._reading = asyncio.Semaphore(_READING)

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int, *, drain_s: float = 10) -> AsyncIterator[int]:
        """Serve (0: any free port) and yield the port; at the end, finish what is in work.

        Raises a `TokentideError` when the address is taken.
        """
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),  # else a second server takes half of the calls, and nobody knows
                ("grpc.max_receive_message_length", self._max_bytes),
                # The library would decompress without a bound. We do it, with one.
                ("grpc.per_message_decompression", 0),
                ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
            )
        )
        server.add_generic_rpc_handlers(tuple(self._service(address) for address in ADDRESSES))
        try:
            bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as exc:
            raise TokentideError(f"cannot listen on {host}:{port}", code="address_in_use") from exc
        await server.start()
        try:
            yield bound
        finally:
            await server.stop(drain_s)

    def _service(self, address: Address) -> grpc.GenericRpcHandler:
        async def export(_messages: AsyncIterator[bytes], context: Context) -> bytes:
            return await self._export(address, context)

        # As a stream of requests, so that the caller is known before its message is read.
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(export)
        return grpc.method_handlers_generic_handler(address.grpc_service, {"Export": handler})

    async def _export(self, address: Address, context: Context) -> bytes:
        visit = Visit(address, "grpc")
        metadata = [(str(name), value) for name, value in context.invocation_metadata() or ()]
        try:
            await self._reception.admit(visit, _headers(metadata), _peer(context.peer()))
            answer = await self._take(visit, metadata, context)
        except Exception as error:  # every error is a status here, also the unforeseen
            self._reception.failed(visit, error)
            answer = _refused(error)
        self._reception.finished(visit, _CODES[answer.code].name)
        if answer.code:
            await context.abort(_CODES[answer.code], answer.details, answer.trailers)
        return answer.message

    async def _take(self, visit: Visit, metadata: list[tuple[str, str | bytes]], context: Context) -> _Answer:
        with self._reception.budget.share() as share:
            raw = await self._read(context)
            share.grow(len(raw))
            body = unpacked_grpc(raw, self._max_bytes)
            if body is not raw:
                share.grow(len(body))
            del raw
            wire = _wire_request(visit, metadata, body) if self._reception.forwards(visit) else None
            if wire is not None and self._reception.relays:
                return _handed_on(await self._reception.relay(visit, wire))
            answer = self._reception.respond(visit, body, "protobuf", wire)
            del body, wire  # whoever still needs them has them
            return _Answer(success(visit.address, await answer, "protobuf"))

    async def _read(self, context: Context) -> bytes:
        try:
            async with asyncio.timeout(self._read_timeout_s), self._reading:
                message: Any = await context.read()
        except TimeoutError:
            raise InvalidRequest(
                f"the message took over {self._read_timeout_s:g} seconds", code="body_timeout"
            ) from None
        if message is grpc.aio.EOF:
            # It left, or the message is over the limit, which the library has told it.
            raise InvalidRequest("the call ended without a message", code="body_incomplete")
        return bytes(message)


def _headers(metadata: list[tuple[str, str | bytes]]) -> Mapping[str, str]:
    return {name: value for name, value in metadata if isinstance(value, str)}


def _peer(named: str) -> str:
    """Return the address in `ipv4:127.0.0.1:4317` or `ipv6:%5B::1%5D:4317`; empty for anything else."""
    family, _, rest = named.partition(":")
    host = unquote(rest).rpartition(":")[0].strip("[]")
    return host if family in ("ipv4", "ipv6") else ""


def _wire_request(visit: Visit, metadata: list[tuple[str, str | bytes]], body: bytes) -> WireRequest:
    headers = tuple(
        (name.encode("latin-1"), value.encode("latin-1") if isinstance(value, str) else value)
        for name, value in metadata
    )
    return WireRequest("POST", f"/{visit.address.grpc_service}/Export", "", headers, body, grpc=True)


def _handed_on(answer: WireAnswer) -> _Answer:
    trailers = tuple(
        (name.decode("latin-1"), value if name.endswith(b"-bin") else value.decode("latin-1"))
        for name, value in answer.headers
    )
    code = answer.grpc_status if answer.grpc_status in _CODES else grpc.StatusCode.UNKNOWN.value[0]
    return _Answer(answer.body, code, answer.grpc_message, trailers)


def _refused(error: Exception) -> _Answer:
    refused = refusal(error)
    details = (("grpc-status-details-bin", status(refused).SerializeToString()),)
    return _Answer(b"", refused.grpc_code, refused.message, details)
