"""The command line in this process, with a home of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.query_stub import KEY, QueryStub
from tokentide.__main__ import main


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder in which nothing of this machine is found."""
    for name in ("INGEST_URL", "QUERY_URL", "KEY", "DATA_DIR", "STATE_DIR", "MACHINE_ID"):
        monkeypatch.delenv(f"TOKENTIDE_{name}", raising=False)
    for name in ("CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


@pytest.fixture
def tokentide(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line and return its end."""

    def run(*args: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tokentide", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def query_stub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueryStub]:
    """A query API that the command line finds through its environment."""
    with QueryStub() as stub:
        monkeypatch.setenv("TOKENTIDE_QUERY_URL", stub.url)
        monkeypatch.setenv("TOKENTIDE_KEY", KEY)
        yield stub
