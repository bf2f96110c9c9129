"""`/device`: where somebody logs in and lets a machine in that shows a code. One page and one script."""

from __future__ import annotations

from litestar import Response, get

from tokentide_query_api.static_pages import static


@get("/device", include_in_schema=False, sync_to_thread=False)
def device_page() -> Response[str]:
    """Return the page on which machines are let in."""
    return static("device.html", "text/html")


@get("/device.js", include_in_schema=False, sync_to_thread=False)
def device_script() -> Response[str]:
    """Return the script of the page on which machines are let in."""
    return static("device.js", "text/javascript")
