"""The command as a whole: version, completion, mistakes, and a start that stays light."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from tokentide.failures import Exit

from .conftest import Run

HEAVY = {"chdb", "litestar", "aiokafka", "sqlalchemy", "clickhouse_connect", "genai_prices", "uvicorn"}
# Looks for every keyring there is: only for who has logged in.
LATE = {"keyring"}


def test_version_and_completion_are_offered(tokentide: Run) -> None:
    assert tokentide("--version").out.strip() == version("tokentide")
    assert "--install-completion" in tokentide("--help").out


def test_an_unknown_command_or_flag_is_a_usage_mistake(tokentide: Run) -> None:
    unknown = tokentide("pusj")
    assert (unknown.code, 'Did you mean "push"' in unknown.err) == (Exit.USAGE, True)
    assert tokentide("push", "--nonsense").code == Exit.USAGE
    assert tokentide("push", "--wait", "-1").code == Exit.USAGE


def test_starting_the_client_loads_no_service_and_no_driver() -> None:
    code = (
        "import sys, tokentide.push, tokentide.stats, tokentide.login, tokentide.logout, tokentide.status,"
        " tokentide.keys, tokentide.machines; from tokentide.commands import build_app; build_app();"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert not packages & (HEAVY | LATE)
    assert not {name for name in packages if name.startswith("tokentide_")} - {"tokentide_common"}


def test_without_the_services_up_says_how_to_install_them(
    tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide.commands.find_spec", lambda _: None)
    ended = tokentide("up")
    assert (ended.code, "cli[embedded]" in ended.err) == (Exit.FAILED, True)
    assert tokentide("pusj").code == Exit.USAGE
