"""The HTTP routes of batch ingest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from tokentide_common.accounts import KeyDirectory
from tokentide_common.errors import TokentideError, UnsupportedEncoding
from tokentide_common.metrics import Metrics
from tokentide_common.problem_answers import answer_problem
from tokentide_common.token_bucket import TokenBuckets
from tokentide_ingest.batch import MAX_EVENT_BYTES, MAX_EVENTS
from tokentide_ingest.body import MAX_BODY_BYTES
from tokentide_ingest.decompress import ENCODINGS
from tokentide_ingest.prefer import MAX_WAIT_S
from tokentide_ingest.receiver import BatchReceiver
from tokentide_ingest.who_sends import admit_sender

BATCHES: Final = "/api/v1/cli/batches"
HEALTH: Final = "/api/v1/cli/health"


class Limits(msgspec.Struct, frozen=True):
    """The bounds of a batch."""

    max_events: int = MAX_EVENTS
    max_body_bytes: int = MAX_BODY_BYTES
    max_event_bytes: int = MAX_EVENT_BYTES
    max_wait_s: int = MAX_WAIT_S
    encodings: tuple[str, ...] = ENCODINGS


class IngestHealth(msgspec.Struct, frozen=True):
    """What a client learns before it sends."""

    status: str
    version: str
    limits: Limits


def batch_routes(
    receiver: BatchReceiver, keys: Callable[[], KeyDirectory], rate: TokenBuckets, metrics: Metrics
) -> list[HTTPRouteHandler]:
    """Return the handlers of `POST /api/v1/cli/batches` and `GET /api/v1/cli/health`."""
    duration = metrics.histogram("tokentide_ingest_request_duration_seconds", route=BATCHES)

    # The body is read and bounded by ourselves: the framework's typed body would take twice the time.
    @post(BATCHES, request_max_body_size=None, summary="Take a batch of usage events")
    async def batches(request: Request[Any, Any, Any]) -> Response[bytes]:
        started = time.perf_counter()
        headers = joined_headers(request.scope["headers"])
        try:
            # Who it is comes before what it says: a stranger's body is never read.
            key = await admit_sender(keys(), headers)
            rate.admit(key.key_id)
            answer = await receiver.receive(key, headers, request.receive)
            response = Response(
                msgspec.json.encode(answer), status_code=answer.status, media_type="application/json"
            )
        except TokentideError as error:
            response = refusal(request, error)
        metrics.counter(
            "tokentide_ingest_requests_total", route=BATCHES, status=str(response.status_code)
        ).inc()
        duration.observe(time.perf_counter() - started)
        return response

    @get(HEALTH, summary="Bounds and version, for a client before it sends")
    async def health() -> IngestHealth:
        return IngestHealth("ok", version("tokentide-ingest"), Limits())

    return [batches, health]


def joined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name, repeated ones joined by a comma as HTTP reads them."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def refusal(request: Request[Any, Any, Any], error: TokentideError) -> Response[bytes]:
    """Return the problem that an error is, with the headers that go with it."""
    response = answer_problem(request, error)
    if isinstance(error, UnsupportedEncoding):
        response.headers["accept-encoding"] = ", ".join(ENCODINGS)  # RFC 9110, section 15.5.16
    if error.stable_code == "body_timeout":
        response.headers["connection"] = "close"  # the rest may drip in for ever
    return response
