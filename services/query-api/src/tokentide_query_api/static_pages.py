"""Pages for browsers, as files: each runs its own script alone."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, Literal

from litestar import Response

# Its own script may run and ask its own server; nothing is loaded from elsewhere, and no page may frame it,
# so that nobody is led to approve what they do not see.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_HEADERS: Final = {"content-security-policy": _POLICY, "cache-control": "no-cache"}


def static(name: str, media_type: Literal["text/html", "text/javascript"]) -> Response[str]:
    """Return a file of the folder `static`."""
    return Response(_read(name), media_type=media_type, headers=_HEADERS)


@cache
def _read(name: str) -> str:
    return files("tokentide_query_api").joinpath("static", name).read_text("utf-8")
