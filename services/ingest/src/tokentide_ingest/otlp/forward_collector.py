"""The collector behind us: knows its addresses and speaks what it speaks."""

from __future__ import annotations

from collections.abc import Mapping

from tokentide_common.errors import Unavailable
from tokentide_ingest.otlp.forward_grpc import GrpcCollector, as_grpc_answer, as_http_headers
from tokentide_ingest.otlp.forward_http import HttpCollector
from tokentide_ingest.otlp.forward_settings import ForwardSettings
from tokentide_ingest.otlp.forward_verdict import Verdict, verdict_on_grpc, verdict_on_http
from tokentide_ingest.otlp.forward_wire import Headers, Signal, WireAnswer, WireRequest


class Collector:
    """Sends each request where its signal and transport go; `added` are the user's headers for it."""

    def __init__(self, settings: ForwardSettings, added: Headers) -> None:
        self._base = settings.otlp_forward_url.rstrip("/")
        self._urls: Mapping[Signal, str] = {
            "logs": settings.otlp_forward_logs_url,
            "metrics": settings.otlp_forward_metrics_url,
            "traces": settings.otlp_forward_traces_url,
        }
        self._added = added
        self._http = HttpCollector(settings.otlp_forward_timeout_s)
        grpc_url = settings.otlp_forward_grpc_url
        self._grpc = GrpcCollector(grpc_url, settings.otlp_forward_timeout_s) if grpc_url else None

    def takes(self, signal: Signal, *, grpc: bool) -> bool:
        """Return whether requests of this signal and transport have somewhere to go."""
        return bool(self._base or self._urls[signal] or (grpc and self._grpc))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()
        if self._grpc is not None:
            await self._grpc.close()

    async def send(self, signal: Signal, request: WireRequest) -> WireAnswer:
        """Return the collector's answer in the request's own transport; raises `Unavailable` without one."""
        headers = (*request.headers, *self._added)
        if not request.grpc:
            return await self._http.send(self.url(signal, request), request.method, headers, request.body)
        if self._grpc is not None:
            return await self._grpc.send(request.path, headers, request.body)
        return as_grpc_answer(await self._send_as_http(signal, request))

    async def attempt(self, signal: Signal, request: WireRequest) -> Verdict:
        """Send a copy and return what became of it."""
        if not self.takes(signal, grpc=request.grpc):
            return Verdict("refused", "no address any more")
        try:
            if request.grpc and self._grpc is not None:
                return verdict_on_grpc(await self.send(signal, request))
            if request.grpc:
                return verdict_on_http(await self._send_as_http(signal, request))
            return verdict_on_http(await self.send(signal, request))
        except Unavailable as error:
            return Verdict("later", error.detail)

    def url(self, signal: Signal, request: WireRequest) -> str:
        """Return the URL of a request: a signal's own as it is, else the base and the request's path."""
        path = f"/v1/{signal}" if request.grpc else request.path
        url = self._urls[signal] or self._base + path
        if not request.query:
            return url
        return f"{url}{'&' if '?' in url else '?'}{request.query}"

    async def _send_as_http(self, signal: Signal, request: WireRequest) -> WireAnswer:
        headers = (*as_http_headers(request.headers), *self._added)
        return await self._http.send(self.url(signal, request), "POST", headers, request.body)
