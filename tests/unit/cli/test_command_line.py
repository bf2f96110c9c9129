"""The command as a whole: version, completion, mistakes, and a start that stays light."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

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


def test_what_the_system_refuses_is_said_without_a_traceback(tokentide: Run, home: Path) -> None:
    (home / "file").write_text("no folder")
    ended = tokentide("push", "--state-dir", str(home / "file" / "state"))
    assert (ended.code, str(home / "file") in ended.err, "Traceback" in ended.err) == (
        Exit.FAILED,
        True,
        False,
    )


def test_a_reader_that_has_enough_is_told_nothing(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tokentide", "logout", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said) == (Exit.FAILED, b"")


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
