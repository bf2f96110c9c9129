"""Settings: from the environment alone, every mistake at once, and no secret in any output."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide_common import settings
from tokentide_common.errors import TokentideError


class Example(settings.ConsumerSettings, frozen=True, kw_only=True):
    ingest_port: Annotated[settings.Port, msgspec.Meta(description="HTTP port.")] = 4318
    ratio: Annotated[float, msgspec.Meta(ge=0, le=1, description="Share.")] = 0.5
    names: tuple[str, ...] = ()
    limit: int | None = None
    mode: Literal["a", "b"] = "a"
    vault_token: Annotated[str, msgspec.Meta(extra={"secret": True})] = ""


class Demanding(settings.SharedSettings, frozen=True, kw_only=True):
    ingest_url: str


def mistakes(cls: type[settings.SharedSettings], environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(TokentideError) as caught:
        settings.load(cls, environ)
    assert caught.value.stable_code == "invalid_settings"
    return caught.value.fields


def test_defaults_work_on_one_machine_with_an_empty_environment():
    loaded = settings.load(Example, {})
    assert loaded.broker_url == "kafka://127.0.0.1:9092"
    assert loaded.clickhouse_url == "clickhouse://default@127.0.0.1:8123/tokentide"
    assert loaded.database_url == "sqlite:///tokentide.db"
    assert loaded.bind_host == "127.0.0.1"


def test_the_defaults_themselves_would_be_accepted_as_values():
    given = {name: str(value) for name, value in settings.effective(settings.SharedSettings()).items()}
    assert settings.load(settings.SharedSettings, given) == settings.SharedSettings()


def test_values_are_read_by_their_types():
    loaded = settings.load(
        Example,
        {
            "TOKENTIDE_INGEST_PORT": "0",
            "TOKENTIDE_RATIO": "0.25",
            "TOKENTIDE_NAMES": "a, b,c",
            "TOKENTIDE_LIMIT": "7",
            "TOKENTIDE_EMBEDDED": "Yes",
            "TOKENTIDE_MODE": "b",
            "UNRELATED": "x",
        },
    )
    assert (loaded.ingest_port, loaded.ratio, loaded.limit) == (0, 0.25, 7)
    assert loaded.names == ("a", "b", "c")
    assert loaded.embedded is True
    assert loaded.mode == "b"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("ON", True), ("false", False), ("0", False), ("no", False)],
)
def test_yes_and_no_may_be_written_in_the_usual_ways(text, value):
    assert settings.load(Example, {"TOKENTIDE_EMBEDDED": text}).embedded is value


def test_an_empty_variable_counts_as_not_set():
    assert settings.load(Example, {"TOKENTIDE_INGEST_PORT": ""}).ingest_port == 4318
    assert mistakes(Demanding, {"TOKENTIDE_INGEST_URL": ""}) == {"TOKENTIDE_INGEST_URL": "must be set"}


def test_all_mistakes_are_told_at_once_and_each_with_what_would_be_right():
    found = mistakes(
        Example,
        {
            "TOKENTIDE_INGEST_PORT": "65536",
            "TOKENTIDE_RATIO": "2",
            "TOKENTIDE_MODE": "c",
            "TOKENTIDE_EMBEDDED": "perhaps",
            "TOKENTIDE_BROKER_URL": "127.0.0.1:9092",
            "TOKENTIDE_SECRET_KEY": "short",
            "TOKENTIDE_DATABSE_URL": "sqlite:///x.db",
        },
    )
    assert found == {
        "TOKENTIDE_BROKER_URL": "must be kafka://host:port[,host:port]",
        "TOKENTIDE_DATABSE_URL": "no part of Tokentide knows this variable; "
        "did you mean TOKENTIDE_DATABASE_URL?",
        "TOKENTIDE_EMBEDDED": "must be true or false",
        "TOKENTIDE_INGEST_PORT": "must be a port from 0 (any free one) to 65535",
        "TOKENTIDE_MODE": "must be a or b",
        "TOKENTIDE_RATIO": "must be a number at least 0 and at most 1",
        "TOKENTIDE_SECRET_KEY": "must be at least 32 characters without spaces",
    }


def test_the_variable_of_a_neighbouring_service_is_no_mistake():
    settings.load(settings.SharedSettings, {"TOKENTIDE_QUERY_PORT": "8000", "TOKENTIDE_HEALTH_PORT": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENTIDE_BROKER_URL", "kafka://a:9092,b:9092"),
        ("TOKENTIDE_CLICKHOUSE_URL", "chdb:///var/lib/tokentide"),
        ("TOKENTIDE_CLICKHOUSE_URL", "clickhouse://user:pass@host:8443/db?secure=1"),
        ("TOKENTIDE_CLICKHOUSE_URL", "clickhouse://host"),
        ("TOKENTIDE_DATABASE_URL", "postgresql://user:pass@host:5432/db"),
        ("TOKENTIDE_DATABASE_URL", "sqlite:////absolute/file.db"),
    ],
)
def test_the_documented_urls_are_accepted(name, value):
    settings.load(settings.SharedSettings, {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENTIDE_BROKER_URL", "kafka://host"),
        ("TOKENTIDE_CLICKHOUSE_URL", "http://host:8123"),
        ("TOKENTIDE_CLICKHOUSE_URL", "chdb://"),
        ("TOKENTIDE_DATABASE_URL", "mysql://host/db"),
    ],
)
def test_other_urls_are_refused(name, value):
    assert name in mistakes(settings.SharedSettings, {name: value})


def test_a_malformed_value_is_not_quoted_since_it_may_be_a_secret():
    with pytest.raises(TokentideError) as caught:
        settings.load(Example, {"TOKENTIDE_DATABASE_URL": "postgres//u:hunter2@h/d"})
    assert "hunter2" not in caught.value.detail


def test_a_value_that_kubernetes_injected_is_named_as_such():
    assert (
        "enableServiceLinks"
        in mistakes(Example, {"TOKENTIDE_INGEST_PORT": "tcp://10.0.0.1:4318"})["TOKENTIDE_INGEST_PORT"]
    )


def test_effective_settings_mask_secrets_and_passwords_inside_urls():
    shown = settings.effective(
        settings.load(
            Example,
            {
                "TOKENTIDE_SECRET_KEY": "s" * 32,
                "TOKENTIDE_VAULT_TOKEN": "hush",
                "TOKENTIDE_DATABASE_URL": "postgresql://me:hunter2@h/d?password=hunter3&sslmode=require",
            },
        )
    )
    assert shown["TOKENTIDE_SECRET_KEY"] == "***"
    assert shown["TOKENTIDE_VAULT_TOKEN"] == "***"
    assert shown["TOKENTIDE_DATABASE_URL"] == "postgresql://me:***@h/d?password=***&sslmode=require"


@given(user=st.text("abcXYZ019", max_size=8), password=st.text(min_size=1, max_size=20))
def test_no_password_of_any_url_survives_masking(user, password):
    secret = "PW" + quote(password, safe="@:!$&'()*+,;=") + "WP"
    masked = settings.masked(f"clickhouse://{user}:{secret}@host:8123/db")
    assert masked == f"clickhouse://{user}:***@host:8123/db"


def test_check_prints_the_effective_settings_and_ends_well(capsys):
    with pytest.raises(SystemExit) as ended:
        settings.run_check_flag(["--check"], Example, {"TOKENTIDE_INGEST_PORT": "1234"})
    assert ended.value.code == 0
    assert "TOKENTIDE_INGEST_PORT=1234\n" in capsys.readouterr().out


def test_check_with_mistakes_lists_them_on_standard_error_and_ends_with_code_2(capsys):
    with pytest.raises(SystemExit) as ended:
        settings.run_check_flag(["--check"], Example, {"TOKENTIDE_INGEST_PORT": "x", "TOKENTIDE_NOPE": "y"})
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "TOKENTIDE_INGEST_PORT" in err
    assert "TOKENTIDE_NOPE" in err


def test_without_the_flag_nothing_is_checked_or_printed(capsys):
    settings.run_check_flag(["serve"], Example, {"TOKENTIDE_NOPE": "y"})
    assert capsys.readouterr() == ("", "")


def test_the_table_for_the_reference_page_has_a_row_per_setting():
    rows = settings.settings_table(Example).splitlines()[2:]
    assert len(rows) == len(msgspec.structs.fields(Example))
    assert "| `TOKENTIDE_INGEST_PORT` | `4318` | a port from 0 (any free one) to 65535 | HTTP port. |" in rows
    assert any(row.startswith("| `TOKENTIDE_INGEST_URL` | required |") for row in _rows(Demanding))


def _rows(cls: type[settings.SharedSettings]) -> list[str]:
    return settings.settings_table(cls).splitlines()
