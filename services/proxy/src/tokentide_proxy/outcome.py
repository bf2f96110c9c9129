"""How an exchange ended."""

from __future__ import annotations

from tokentide_common.events import Status


class Outcome:
    """How it ended, and when: seconds since the epoch and milliseconds."""

    __slots__ = ("duration_ms", "error_type", "http_status", "started_at", "status", "ttft_ms")

    def __init__(
        self,
        status: Status,
        http_status: int,
        started_at: float,
        *,
        duration_ms: int,
        ttft_ms: int = 0,
        error_type: str = "",
    ) -> None:
        self.status = status
        self.http_status = http_status
        self.started_at = started_at
        self.duration_ms = duration_ms
        self.ttft_ms = ttft_ms
        """From the request's last byte sent to the first byte of the answer's body."""
        self.error_type = error_type
        """A closed word, ours where the provider gave none: client_left, upstream_timeout, …"""
