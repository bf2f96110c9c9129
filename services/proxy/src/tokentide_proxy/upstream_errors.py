"""What can go wrong between us and a provider: a closed set, each with its word."""

from __future__ import annotations

from typing import ClassVar, Literal

UpstreamWord = Literal[
    "upstream_unreachable", "upstream_timeout", "upstream_broken", "upstream_refused_address"
]


class UpstreamError(Exception):
    """No answer, or no more of it. The message is for our own log and quotes nothing of the exchange."""

    word: ClassVar[UpstreamWord]


class UpstreamUnreachable(UpstreamError):
    """Its name does not resolve, it accepts no connection, or its certificate is not to be trusted."""

    word = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    """It took longer than we wait: to connect, to begin its answer, or between two parts of it."""

    word = "upstream_timeout"


class UpstreamBroken(UpstreamError):
    """It ended before its answer did, or what it said is not HTTP that can be trusted."""

    word = "upstream_broken"


class UpstreamRefusedAddress(UpstreamError):
    """Its name leads to an address where no provider lives: ours, the network's or the cloud's own."""

    word = "upstream_refused_address"
