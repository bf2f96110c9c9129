"""`tokentide provider-key`: a provider's key goes in from a prompt or a pipe, and never comes out again."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

from tokentide.embedded.credentials import ensure_credentials
from tokentide.embedded.data_folder import DataFolder
from tokentide.embedded.secret_key import ensure_secret_key
from tokentide.failures import Exit
from tokentide_common.database import open_database
from tokentide_common.provider_credentials import CredentialDirectory, Vault

from .conftest import Run

SECRET = "sk-ant-CANARY-of-the-provider"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """A data folder in which a system has run."""
    monkeypatch.delenv("TOKENTIDE_SECRET_KEY", raising=False)
    made = DataFolder(tmp_path / "data")
    made.root.mkdir()
    engine = open_database(f"sqlite:///{made.accounts}")
    ensure_credentials(made, engine, "UTC")
    engine.dispose()
    return made


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


async def kept(folder: DataFolder, name: str) -> str | None:
    """What the proxy of this folder would send."""
    engine = open_database(f"sqlite:///{folder.accounts}")
    directory = CredentialDirectory(engine, Vault(ensure_secret_key(folder, os.environ)))
    await directory.refresh()
    engine.dispose()
    return directory.secret_for(json.loads(folder.credentials.read_text())["organization"], name)


async def test_a_key_from_a_pipe_is_what_the_proxy_sends_until_it_is_removed(
    folder: DataFolder, tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, f"{SECRET}\n")
    done = tokentide("provider-key", "set", "anthropic", "--data-dir", str(folder.root))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert await kept(folder, "anthropic") == SECRET
    listed = tokentide("provider-key", "list", "--json", "--data-dir", str(folder.root))
    assert [(key["name"], sorted(key)) for key in json.loads(listed.out)] == [
        ("anthropic", ["changed_at", "name"])
    ]
    shown = tokentide("provider-key", "list", "--data-dir", str(folder.root)).out
    assert ("anthropic" in shown, "CANARY" in shown) == (True, False)
    assert tokentide("provider-key", "remove", "anthropic", "--data-dir", str(folder.root)).code == 0
    assert await kept(folder, "anthropic") is None
    again = tokentide("provider-key", "remove", "anthropic", "--data-dir", str(folder.root))
    assert (again.code, "no key is kept" in again.err) == (Exit.FAILED, True)
    everything = b"".join(path.read_bytes() for path in folder.root.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything


def test_what_cannot_be_a_key_or_a_name_is_refused(
    folder: DataFolder, tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in (("anthropic", "two words"), ("anthropic", ""), ("Not A Name", SECRET)):
        type_in(monkeypatch, key)
        done = tokentide("provider-key", "set", name, "--data-dir", str(folder.root))
        assert (done.code, "CANARY" in done.err) == (Exit.FAILED, False)
    assert json.loads(tokentide("provider-key", "list", "--json", "--data-dir", str(folder.root)).out) == []
    assert tokentide("provider-key", "set", "anthropic", SECRET).code == Exit.USAGE, "never as an argument"


def test_a_name_that_is_not_built_in_is_kept_with_a_word(
    folder: DataFolder, tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, SECRET)
    done = tokentide("provider-key", "set", "my-gateway", "--data-dir", str(folder.root))
    assert (done.code, "TOKENTIDE_PROXY_UPSTREAMS" in done.err) == (0, True)


def test_before_the_first_start_it_says_what_to_start(tokentide: Run, tmp_path: Path) -> None:
    for arguments in (("set", "anthropic"), ("list",), ("remove", "anthropic")):
        done = tokentide("provider-key", *arguments, "--data-dir", str(tmp_path / "none"))
        assert (done.code, "tokentide up" in done.err) == (Exit.FAILED, True)


def test_the_secret_key_is_made_once_is_private_and_yields_to_the_environment(folder: DataFolder) -> None:
    made = ensure_secret_key(folder, {})
    assert len(made) >= 32
    assert ensure_secret_key(folder, {}) == made
    assert stat.S_IMODE(folder.secret_key.stat().st_mode) == 0o600
    assert [path.name for path in folder.root.glob("*.part")] == []
    assert ensure_secret_key(folder, {"TOKENTIDE_SECRET_KEY": "e" * 40}) == "e" * 40
    assert ensure_secret_key(folder, {"TOKENTIDE_SECRET_KEY": ""}) == made


def test_without_the_services_it_says_how_to_install_them(
    tokentide: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokentide.commands.find_spec", lambda _: None)
    ended = tokentide("provider-key", "set", "anthropic")
    assert (ended.code, "cli[embedded]" in ended.err) == (Exit.FAILED, True)
