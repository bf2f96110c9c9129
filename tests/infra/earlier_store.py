"""A store as an earlier version of the product left it."""

from __future__ import annotations

import pytest

from tokentide_common import migrate as migrating
from tokentide_common.migrate import migrate, migrations
from tokentide_common.store import Store


async def as_before(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make a store as it was before a migration."""
    earlier = [each for each in migrations() if each[0] < name]
    with monkeypatch.context() as before:
        before.setattr(migrating, "migrations", lambda: earlier)
        await migrate(store)
