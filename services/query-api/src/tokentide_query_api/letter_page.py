"""Where the links in letters lead: one page and one script for all of them."""

from __future__ import annotations

from litestar import Response, get

from tokentide_query_api.static_pages import static


@get(
    ["/verify-email", "/reset-password", "/accept-invitation"], include_in_schema=False, sync_to_thread=False
)
def letter_page() -> Response[str]:
    """Return the page that a link in a letter leads to."""
    return static("letter.html", "text/html")


@get("/letter.js", include_in_schema=False, sync_to_thread=False)
def letter_script() -> Response[str]:
    """Return the script of the pages that letters lead to."""
    return static("letter.js", "text/javascript")
