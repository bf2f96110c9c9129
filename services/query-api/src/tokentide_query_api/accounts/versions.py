"""ETags: a change names the version that its maker has seen: nobody overwrites what they never saw."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

from litestar.params import HeaderParameter

from tokentide_common.errors import Conflict

_ETAG: Final = re.compile(r'"v([0-9]{1,9})"')

IfMatch: TypeAlias = Annotated[
    str | None,
    HeaderParameter(name="If-Match", description="The ETag of the version that is changed, or `*`."),
]


def etag(version: int) -> str:
    """Return the ETag of a version."""
    return f'"v{version}"'


def wanted_version(if_match: str | None) -> int | None:
    """Return the version that a change is for, None for any (`*`).

    Raises `Conflict` (428) without the header and (412) for one that is no ETag of ours.
    """
    if if_match is None:
        raise Conflict(
            "say in If-Match which version you change: the ETag of your last look, or *",
            code="version_required",
            status=428,
        )
    if if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise outdated()
    return int(found[1])


def outdated() -> Conflict:
    """Return the refusal of a change to what has changed meanwhile."""
    return Conflict("it has changed since you saw it: look again", code="version_outdated", status=412)
