"""Counts and times the answers of each route."""

from __future__ import annotations

import time

from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tokentide_common.metrics import Metrics


class Metering(ASGIMiddleware):
    """Records each request under its route's template, so that ids in paths make no new series."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Answer, and note status and time when the answer begins."""
        route = str(scope.get("path_template", "unmatched"))
        began = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = str(message["status"])
                self._metrics.counter("tokentide_query_requests_total", route=route, status=status).inc()
                self._metrics.histogram("tokentide_query_request_duration_seconds", route=route).observe(
                    time.perf_counter() - began
                )
            await send(message)

        await next_app(scope, receive, noted)
