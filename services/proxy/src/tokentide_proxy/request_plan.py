"""What was found out about a request, for the next one with the same head."""

from __future__ import annotations

from tokentide_proxy.client_cycle import Cycle
from tokentide_proxy.exchange import Admission
from tokentide_proxy.headers import request_headers
from tokentide_proxy.routing import Route
from tokentide_proxy.stream_usage import asking_for_usage
from tokentide_proxy.upstream_request import RequestPlan, UpstreamRequest, wire_request
from tokentide_proxy.whom import Whom


class Plan:
    """Where a request goes, for whom, and its head on the way up."""

    __slots__ = ("_asks_for_usage", "_repeated", "admission", "good_until", "route", "whom")

    def __init__(self, route: Route, admission: Admission, whom: Whom, *, asks_for_usage: bool) -> None:
        self.route = route
        self.admission = admission
        self.whom = whom
        self._asks_for_usage = asks_for_usage
        self.good_until = 0.0
        """Until when, by `time.monotonic`, nobody looks whether it still holds."""
        self._repeated: RequestPlan | None = None

    def request(self, client: Cycle, body: bytes) -> tuple[UpstreamRequest, bool]:
        """Return the request, and whether it asks for usage that the client has not asked for.

        Raises `InvalidRequest`.
        """
        if self._repeated is not None and body:
            return self._repeated.with_body(body), False
        admission, asking = self.admission, None
        headers = request_headers(admission.headers, self.route.upstream)
        if self._asks_for_usage:
            asking = asking_for_usage(headers, body)
            if asking is not None:
                headers, body = asking
        request = wire_request(client.method, admission.target, headers, body)
        if not self._asks_for_usage:
            self._repeated = RequestPlan.of(request)
        return request, asking is not None
