"""`/device`: where somebody logs in and lets a machine in that shows a code. One page and one script."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from litestar import Response, get

# Its own script may run and ask its own server; nothing is loaded from elsewhere, and no page may frame it,
# so that nobody is led to approve what they do not see.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_HEADERS: Final = {"content-security-policy": _POLICY, "cache-control": "no-cache"}


@get("/device", include_in_schema=False, sync_to_thread=True)
def device_page() -> Response[str]:
    """Return the page on which machines are let in."""
    return Response(_file("device.html"), media_type="text/html", headers=_HEADERS)


@get("/device.js", include_in_schema=False, sync_to_thread=True)
def device_script() -> Response[str]:
    """Return the script of the page on which machines are let in."""
    return Response(_file("device.js"), media_type="text/javascript", headers=_HEADERS)


def _file(name: str) -> str:
    return files("tokentide_query_api").joinpath("static", name).read_text("utf-8")
