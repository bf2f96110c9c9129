"""A collector that records what reaches it, byte for byte, over HTTP and gRPC; it can be away, and refuse."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import grpc
import grpc.aio
from aiohttp import web

from infra.process import free_port

Answer = tuple[int, dict[str, str], bytes]
_SERVICES = ("logs.v1.LogsService", "metrics.v1.MetricsService", "trace.v1.TraceService")


@dataclass
class Received:
    """A request as it came: raw path with query, headers in order, the body still compressed."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes
    transport: str

    def header(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


@dataclass
class RecordingCollector:
    """Listens on fixed loopback ports between `start` and `stop`, as often as one likes."""

    port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    received: list[Received] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)
    """What the next requests get, in order; after that, success."""
    _runner: web.AppRunner | None = None
    _grpc: grpc.aio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.received]

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._http)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def start_grpc(self) -> None:
        self._grpc = grpc.aio.server()
        for service in _SERVICES:
            name = f"opentelemetry.proto.collector.{service}"
            method = grpc.unary_unary_rpc_method_handler(self._call(f"/{name}/Export"))
            self._grpc.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, {"Export": method}),)
            )
        self._grpc.add_insecure_port(f"127.0.0.1:{self.grpc_port}")
        await self._grpc.start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._grpc is not None:
            await self._grpc.stop(0)
            self._grpc = None

    async def _http(self, request: web.Request) -> web.Response:
        headers = [(name.decode().lower(), value.decode()) for name, value in request.raw_headers]
        body = await request.read()
        status, answered, content = self.answers.popleft() if self.answers else (200, {}, b"")
        self.received.append(Received(request.raw_path, headers, body, "http"))
        return web.Response(status=status, headers=answered, body=content)

    def _call(self, path: str):
        async def handle(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
            metadata = [(name, str(value)) for name, value in context.invocation_metadata() or ()]
            self.received.append(Received(path, metadata, message, "grpc"))
            status, answered, content = self.answers.popleft() if self.answers else (0, {}, b"")
            if status:
                await context.abort(
                    grpc.StatusCode((status, _WORDS[status])), "not now", tuple(answered.items())
                )
            context.set_trailing_metadata(tuple(answered.items()))
            return content

        return handle


_WORDS = {code.value[0]: code.value[1] for code in grpc.StatusCode}
