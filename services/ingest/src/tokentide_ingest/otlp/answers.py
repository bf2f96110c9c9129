"""Answers as the OTLP specification words them: partial success, and errors as `google.rpc.Status`."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tokentide_common.errors import (
    Forbidden,
    InvalidRequest,
    Retryable,
    TokentideError,
    TooLarge,
    Unauthorized,
)
from tokentide_ingest.otlp.signals import Address

Encoding = Literal["json", "protobuf"]
MEDIA_TYPES: Final[dict[Encoding, str]] = {
    "json": "application/json",
    "protobuf": "application/x-protobuf",
}
_ENCODINGS: Final = {media_type: encoding for encoding, media_type in MEDIA_TYPES.items()}
_RETRY_AFTER_TIMEOUT_S: Final = 1
# The first that fits.
_GRPC_CODES: Final = (
    (TooLarge, code_pb2.RESOURCE_EXHAUSTED),
    (Unauthorized, code_pb2.UNAUTHENTICATED),
    (Forbidden, code_pb2.PERMISSION_DENIED),
    (InvalidRequest, code_pb2.INVALID_ARGUMENT),
)


class Outcome(msgspec.Struct, frozen=True):
    """What an export came to, once everything accepted is safe."""

    events: int = 0
    facts: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """Why an export was not taken, for either transport. With `retry_after_s` a retry can help."""

    http_status: int
    grpc_code: int
    message: str
    retry_after_s: int = 0


def encoding_of(content_type: str) -> Encoding | None:
    """Return how a body is encoded, or None for a content type that OTLP does not have."""
    return _ENCODINGS.get(content_type.partition(";")[0].strip().lower())


def success(address: Address, outcome: Outcome, encoding: Encoding) -> bytes:
    """Return the body of a success; it is partial if something was refused, and must not be sent again."""
    response = address.response()
    if outcome.rejected:
        # The three messages differ in the name of one field.
        partial = response.partial_success  # type: ignore[attr-defined]  # all three have it
        setattr(partial, address.rejected_field, outcome.rejected)
        partial.error_message = "; ".join(outcome.reasons)
    return encoded(response, encoding)


def refusal(error: Exception) -> Refusal:
    """Return the answer to an error. Only what can succeed later asks for a retry."""
    if not isinstance(error, TokentideError):
        return Refusal(500, code_pb2.INTERNAL, "this is our fault; the log has the reason")
    message = f"{error.stable_code}: {error.detail}"
    if isinstance(error, Retryable):
        # 503 also for whoever is too fast: widely used exporters drop an export that gets 429.
        return Refusal(503, code_pb2.UNAVAILABLE, message, error.retry_after_s)
    if error.stable_code == "body_timeout":
        return Refusal(503, code_pb2.UNAVAILABLE, message, _RETRY_AFTER_TIMEOUT_S)
    code = next((code for kind, code in _GRPC_CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    return Refusal(error.status, code, message)


def status(refused: Refusal) -> status_pb2.Status:
    """Return a refusal as the message that both transports carry."""
    made = status_pb2.Status(code=refused.grpc_code, message=refused.message)
    if refused.retry_after_s:
        delay = error_details_pb2.RetryInfo()
        delay.retry_delay.FromSeconds(refused.retry_after_s)
        made.details.add().Pack(delay)
    return made


def encoded(message: Message, encoding: Encoding) -> bytes:
    """Return a message as the request was encoded."""
    if encoding == "protobuf":
        return message.SerializeToString()
    return MessageToJson(message, indent=None).encode()
