"""How much of a head is taken."""

from __future__ import annotations

import msgspec

from tokentide_proxy.exchange import Headers


class HeadBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a head is taken, from clients and from providers."""

    max_head_bytes: int = 1 << 16
    max_headers: int = 256

    def exceeded(self, headers: Headers, *, at_most: int, besides: int = 0) -> bool:
        """Tell whether headers, with so many bytes `besides`, are too much.

        They came in `at_most` so many bytes: mostly that is little enough, and nothing has to be added up.
        """
        return len(headers) > self.max_headers or (
            at_most > self.max_head_bytes
            and besides + sum(len(name) + len(value) + 4 for name, value in headers) > self.max_head_bytes
        )
