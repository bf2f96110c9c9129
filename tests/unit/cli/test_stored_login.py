"""Where keys of a login are kept, and which server and key a command uses."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from infra.keyrings import Broken, Forgetting, Keeping, keyring_in_use
from tokentide.connection import Connection, default_data_dir, find_connection, query_address
from tokentide.failures import Exit, Failure
from tokentide.machine import this_machine
from tokentide.stored_login import (
    FILE_STORE,
    Keys,
    StoredLogin,
    forget_login,
    keys_of,
    login_file,
    read_login,
    store_login,
)

KEYS = Keys("tt_m_secret", "tt_a_secret")
SERVER, INGEST = "https://tide.example", "https://in.tide.example"
LOGIN = StoredLogin(
    server=SERVER,
    ingest=INGEST,
    organization_id="org_a",
    organization="A",
    user_id="usr_1",
    email="ada@example.com",
    machine_id="m1",
    logged_in_at="2026-11-22T10:00:00+00:00",
    key_ids=["key_m", "key_a"],
)


@pytest.fixture
def keeping(home: Path) -> Iterator[Keeping]:
    backend = Keeping()
    with keyring_in_use(backend):
        yield backend


@pytest.fixture
def no_keyring(home: Path) -> Iterator[None]:
    with keyring_in_use(fail.Keyring()):
        yield


def embedded(folder: Path, url: str = "http://127.0.0.1:1") -> Path:
    """Write what a running embedded system leaves in its data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "addresses.json").write_text(json.dumps({"query": url, "ingest": url}))
    keys = {"organization": "o", "api_key": "tt_a_embedded", "machine_key": "tt_m_embedded"}
    (folder / "credentials.json").write_text(json.dumps(keys))
    return folder


def test_keys_are_in_the_keyring_and_not_in_the_file(keeping: Keeping) -> None:
    stored = store_login(LOGIN, KEYS, in_file=False)
    assert (stored.keys, stored.kept_in) == (None, keeping.name)
    assert "secret" not in login_file().read_text()
    assert read_login() == stored
    assert keys_of(stored) == KEYS
    assert forget_login(stored)
    assert (keeping.kept, login_file().exists(), read_login()) == ({}, False, None)


@pytest.mark.parametrize(
    "backend", [fail.Keyring(), null.Keyring(), Forgetting(), Broken()], ids=lambda b: type(b).__name__
)
def test_without_a_keyring_that_keeps_keys_are_in_a_file_of_their_owner(
    home: Path, backend: KeyringBackend
) -> None:
    with keyring_in_use(backend):
        stored = store_login(LOGIN, KEYS, in_file=False)
        assert (stored.keys, stored.kept_in) == (KEYS, FILE_STORE)
        assert stat.S_IMODE(login_file().stat().st_mode) == 0o600
        assert read_login() == stored
        assert forget_login(stored)


def test_a_keyring_in_plain_text_is_none(home: Path) -> None:
    plain = type("PlaintextKeyring", (Keeping,), {"__module__": "keyrings.alt.file"})()
    with keyring_in_use(plain):
        assert store_login(LOGIN, KEYS, in_file=False).kept_in == FILE_STORE
    assert plain.kept == {}


def test_the_file_is_taken_where_it_is_asked_for(keeping: Keeping) -> None:
    assert store_login(LOGIN, KEYS, in_file=True).kept_in == FILE_STORE
    assert keeping.kept == {}


def test_a_locked_keyring_is_a_failure_that_says_so_and_not_another_system(keeping: Keeping) -> None:
    store_login(LOGIN, KEYS, in_file=False)
    embedded(default_data_dir())
    keeping.locked = True
    with pytest.raises(Failure, match="locked"):
        find_connection("query", None, None, None)


def test_flags_come_before_the_login_and_the_login_before_the_data_folder(
    no_keyring: None, tmp_path: Path
) -> None:
    embedded(default_data_dir())
    assert find_connection("query", None, None, None).key == "tt_a_embedded"
    store_login(LOGIN, KEYS, in_file=True)
    assert find_connection("query", None, None, None) == Connection(SERVER, "tt_a_secret")
    assert find_connection("ingest", None, None, None) == Connection(INGEST, "tt_m_secret")
    assert find_connection("query", None, "tt_a_mine", None) == Connection(SERVER, "tt_a_mine")
    assert find_connection("query", f"{SERVER}/", None, None) == Connection(SERVER, "tt_a_secret")
    given = embedded(tmp_path / "given", "http://127.0.0.1:2")
    assert find_connection("query", None, None, given) == Connection("http://127.0.0.1:2", "tt_a_embedded")


def test_a_key_of_the_login_is_sent_to_no_other_server(no_keyring: None) -> None:
    store_login(LOGIN, KEYS, in_file=True)
    for url in ("https://elsewhere.example", "http://tide.example", f"{SERVER}.elsewhere.example", INGEST):
        with pytest.raises(Failure) as caught:
            find_connection("query", url, None, None)
        assert caught.value.code == Exit.USAGE


def test_a_login_without_an_ingest_server_is_not_pushed_elsewhere(no_keyring: None) -> None:
    embedded(default_data_dir())
    without = StoredLogin(**{**{f: getattr(LOGIN, f) for f in LOGIN.__struct_fields__}, "ingest": ""})
    store_login(without, KEYS, in_file=True)
    with pytest.raises(Failure, match="no ingest server"):
        find_connection("ingest", None, None, None)


def test_an_unreadable_login_is_said_and_not_taken_for_none(no_keyring: None) -> None:
    embedded(default_data_dir())
    login_file().parent.mkdir(parents=True)
    login_file().write_text("{")
    with pytest.raises(Failure, match="cannot be read"):
        find_connection("query", None, None, None)
    assert query_address("https://tide.example/", None) == "https://tide.example"


@pytest.mark.parametrize("url", ["tide.example", "ftp://tide.example", ""])
def test_a_login_needs_an_address(no_keyring: None, url: str) -> None:
    with pytest.raises(Failure) as caught:
        query_address(url, None)
    assert caught.value.code == Exit.USAGE


def test_this_machine_stays_the_one_that_logged_in_unless_it_is_named(
    no_keyring: None, tmp_path: Path
) -> None:
    random = this_machine(tmp_path, machine_id=None).id
    store_login(LOGIN, KEYS, in_file=True)
    assert random not in {"", LOGIN.machine_id}
    assert this_machine(tmp_path, machine_id=None).id == LOGIN.machine_id
    assert this_machine(tmp_path, machine_id="named").id == "named"
