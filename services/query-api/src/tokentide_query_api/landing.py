"""`/`: a page that says what answers here."""

from __future__ import annotations

from typing import Final

from litestar import Response, get

from tokentide_query_api.device_page import device_page, device_script
from tokentide_query_api.letter_page import letter_page, letter_script

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Tokentide</title>
<h1>Tokentide</h1>
<p>The query API answers under <code>/api/v1</code> for callers with an API key:</p>
<pre>curl -H "Authorization: Bearer $TOKENTIDE_KEY" \\
     "$TOKENTIDE_QUERY_URL/api/v1/usage/summary?from=today"</pre>
<p><a href="/schema">OpenAPI document</a> · <a href="/healthz">health</a> ·
<a href="/readyz">readiness</a></p>
</html>
"""


@get("/", include_in_schema=False, sync_to_thread=False)
def landing() -> Response[str]:
    """Return the landing page; it loads nothing and runs nothing."""
    return Response(
        _PAGE,
        media_type="text/html",
        headers={"content-security-policy": "default-src 'none'; frame-ancestors 'none'"},
    )


PAGES: Final = (landing, device_page, device_script, letter_page, letter_script)
"""Every page for browsers."""
