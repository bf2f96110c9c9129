"""Real clients from the npm registry, asked for by name with `make test-clients`, and then never skipped:
`tests/clients` is collected only when it is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import Embedded, Keys
from infra.fake_provider import FakeProvider

INSTALLED = Path(__file__).parent / "node_modules"


@pytest.fixture(scope="package")
def provider() -> Iterator[FakeProvider]:
    """What the proxy takes for every provider."""
    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory, provider: FakeProvider) -> Iterator[Embedded]:
    assert INSTALLED.is_dir(), "the clients are not installed: run `make test-clients`"
    running = Embedded(tmp_path_factory.mktemp("system"))
    running.start(TOKENTIDE_PROXY_UPSTREAMS=provider.upstreams)
    yield running
    running.end()


@pytest.fixture
def keys(system: Embedded) -> Keys:
    return system.organization()
