"""The error tree. Every error that can leave a service has a stable `code` and an HTTP `status`.

    TokentideError
    ├── InvalidRequest      400  the request as a whole cannot be understood
    │   ├── TooLarge        413  over a documented bound
    │   └── UnsupportedEncoding 415
    ├── InvalidEvent        422  one event is not a usage event (its neighbours may be)
    ├── Unauthorized        401  no key, an unknown key or a revoked key: one answer for all three
    ├── Forbidden           403  who asks is known, and may not
    ├── Conflict            409  it contradicts what is there (412: what is there has changed; 428: say what
    │                            you know of it)
    ├── NotFound            404  also for what belongs to another organisation
    └── Retryable                the same request can succeed after `retry_after_s`
        ├── RateLimited     429
        └── Unavailable     503  broker, store or database away: nothing was accepted

`InvalidEvent` is poison: it goes to the dead letters.
`Unavailable` is outage: whoever meets it waits and tries the same again.
"""

from __future__ import annotations

from typing import ClassVar


class TokentideError(Exception):
    """An error with a stable `code` (documented in docs/reference/errors.md) and an HTTP `status`.

    `detail` is written for the person who meets it and never quotes prompts, keys or event content.
    `fields` names offending fields or settings, each with its own message.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, code: str | None = None, fields: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.stable_code = code or self.code
        self.fields = fields or {}


class InvalidRequest(TokentideError):
    """The request as a whole cannot be understood."""

    code = "invalid_request"
    status = 400
    title = "Invalid request"


class TooLarge(InvalidRequest):
    """The request is over a documented bound."""

    code = "too_large"
    status = 413
    title = "Too large"


class UnsupportedEncoding(InvalidRequest):
    """The content encoding or content type is not one that this route reads."""

    code = "unsupported_encoding"
    status = 415
    title = "Unsupported encoding"


class InvalidEvent(TokentideError):
    """One event is not a usage event; its neighbours are judged on their own."""

    code = "invalid_event"
    status = 422
    title = "Invalid event"


class Unauthorized(TokentideError):
    """No key, an unknown key, or a revoked key: one answer for all three."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(TokentideError):
    """Who asks is known and of this organisation, but their role, key or scope does not allow it."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class Conflict(TokentideError):
    """The request contradicts what is there; `status` 412: its version is outdated, 428: it names none."""

    code = "conflict"
    status = 409
    title = "Conflict"

    def __init__(self, detail: str, *, code: str | None = None, status: int = 409) -> None:
        super().__init__(detail, code=code)
        self.status = status  # type: ignore[misc]  # one class for the three: callers read the same attribute


class NotFound(TokentideError):
    """There is no such thing in the caller's organisation."""

    code = "not_found"
    status = 404
    title = "Not found"


class Retryable(TokentideError):
    """A retry of the same request can help, after `retry_after_s` seconds."""

    def __init__(self, detail: str, *, retry_after_s: int = 1, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class RateLimited(Retryable):
    """Too fast: come back after `retry_after_s`."""

    code = "rate_limited"
    status = 429
    title = "Too many requests"


class Unavailable(Retryable):
    """Broker, store or database is away: nothing was accepted, a retry can help."""

    code = "unavailable"
    status = 503
    title = "Service unavailable"
