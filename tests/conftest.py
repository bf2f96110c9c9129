"""Fixtures that tests of every kind share: the real parts under `infra/`."""

from __future__ import annotations

pytest_plugins = ["infra.postgres"]
