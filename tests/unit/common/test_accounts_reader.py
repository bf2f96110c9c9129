"""One setting names the database for every service: its URL is read as SQLAlchemy reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from tokentide_common.accounts_reader import parsed
from tokentide_common.errors import InvalidRequest

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F), min_size=1, max_size=12)
HOSTS = st.sampled_from(["db", "db.example.com", "10.0.0.1", "::1"])


def assert_alike(text: str) -> None:
    ours, theirs = parsed(text), make_url(text)
    assert ours.dialect == theirs.get_backend_name()
    assert (ours.user, ours.password, ours.host) == (theirs.username, theirs.password, theirs.host)
    assert (ours.port and int(ours.port), ours.database) == (theirs.port, theirs.database or "")
    assert ours.options == {name: str(value) for name, value in theirs.query.items()}


@given(TEXT, TEXT, HOSTS, st.none() | st.integers(1, 65535), st.sampled_from(["", "tokentide", "a-b_c"]))
def test_what_it_names_is_what_sqlalchemy_would_open(
    user: str, password: str, host: str, port: int | None, database: str
) -> None:
    url = URL.create("postgresql", user, password, host, port, database or None)
    assert_alike(url.render_as_string(hide_password=False))


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///tokentide.db",
        "sqlite:////var/lib/tokentide/accounts.db",
        "sqlite+pysqlite:///~/a b.db",
        "postgresql:///tokentide?host=/run/postgresql",
        "postgresql+psycopg://u:p%40ss#/?@db:5432/tokentide?sslmode=require&application_name=x",
        "postgresql://u@[::1]:5432/d",
    ],
)
def test_urls_as_people_write_them(text: str) -> None:
    assert_alike(text)


@pytest.mark.parametrize("text", ["", "mysql://u@h/d", "tokentide.db", "postgresql:/h/d"])
def test_another_database_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parsed(text)
