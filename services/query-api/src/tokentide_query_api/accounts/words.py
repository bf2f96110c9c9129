"""Types of fields in the bodies of account routes: bounded, and of text that any database can keep."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec

# No control characters: PostgreSQL keeps no NUL, and a line of a list stays a line.
PLAIN: Final = r"^(?!.*[\x00-\x1f\x7f])"
Label: TypeAlias = Annotated[str, msgspec.Meta(max_length=200, pattern=PLAIN)]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=PLAIN + r".*\S")]
# Without U+0130, which is two letters in lower case: kept so, an address would outgrow its column.
_ADDRESS: Final = r"[^@\s\x00-\x1f\x7f<>,;:\"\u0130]{1,64}@[^@\s\x00-\x1f\x7f<>,;:\"\u0130]+"
Email: TypeAlias = Annotated[str, msgspec.Meta(max_length=254, pattern=rf"^{_ADDRESS}$(?!\n)")]
NoEmail: TypeAlias = Annotated[str, msgspec.Meta(max_length=254, pattern=rf"^({_ADDRESS})?$(?!\n)")]
"""An e-mail address, or nothing."""
Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[0-9A-Za-z_.-]+$(?!\n)")]
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
