"""How long we wait for a provider, and how much of it we take."""

from __future__ import annotations

from tokentide_proxy.head_bounds import HeadBounds


class UpstreamLimits(HeadBounds, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes."""

    connect_s: float = 10.0
    """For the name, the connection and TLS together."""
    first_byte_s: float = 600.0
    """From the end of the request to the head of the answer: models think for minutes."""
    idle_s: float = 300.0
    """Between two parts of an answer, and for a part of a request to be taken."""
    keep_alive_s: float = 50.0
    """A connection without work is closed after this; usual load balancers wait for 60 s."""
    max_age_s: float = 600.0
    """A connection of this age takes no new request, so that changes of addresses are followed."""
    retry_within_s: float = 1.0
    """A connection that was closed while it lay idle shows that within a round trip. One that dies later may
    have died of the request, which then is not sent again."""
    retry_post_within_s: float = 0.05
    """The same for a request that may cost something each time: a close that was on its way already comes
    after half a round trip, and nothing has been worked on by then."""
    max_idle: int = 128
    """Connections without work that are kept for one upstream."""
    buffer_bytes: int = 1 << 16
    """What is held of an answer that its reader does not take, and of a request that the upstream does not
    take, before the other side is made to wait."""
