"""The whole system, once for all tests that leave it as it is: each uses an organisation of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.embedded import Embedded, Keys, Machine
from infra.fake_provider import FakeProvider


@pytest.fixture(scope="package")
def provider() -> Iterator[FakeProvider]:
    """What the proxy of the system takes for every provider."""
    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider) -> Iterator[Embedded]:
    running = Embedded(tmp_path_factory.mktemp("system"))
    running.start(TOKENTIDE_PROXY_UPSTREAMS=provider.upstreams)
    yield running
    running.end()


@pytest.fixture
def keys(system: Embedded) -> Keys:
    return system.organization()


@pytest.fixture
def machine(system: Embedded, keys: Keys, tmp_path: Path) -> Callable[[str], Machine]:
    """A machine by its id."""
    return lambda name: Machine(tmp_path / name, system, keys)


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[Embedded]:
    """A system for one test, which starts it and may hurt it."""
    own = Embedded(tmp_path)
    yield own
    own.kill()
