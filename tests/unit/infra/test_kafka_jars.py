"""Fetching the durable broker: verified, repeatable, and clear when it cannot be done."""

import hashlib
from pathlib import Path

import pytest

from infra import kafka_jars
from infra.kafka_jars import JarsUnavailable, ensure_jars, listed

CONTENT = b"not really a jar"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven repository with one jar, and a list that names it."""
    jar = tmp_path / "maven/org/example/thing/1.0/thing-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(CONTENT)
    names = tmp_path / "jars.txt"
    names.write_text(f"# a list\norg.example:thing:1.0 {hashlib.sha256(CONTENT).hexdigest()}\n")
    monkeypatch.setattr(kafka_jars, "LIST", names)
    monkeypatch.setenv(kafka_jars.REPOSITORY_VARIABLE, (tmp_path / "maven").as_uri())
    return jar


def test_jars_are_fetched_once_from_the_repository_that_is_named(repository: Path, tmp_path: Path) -> None:
    folder = ensure_jars(tmp_path / "kafka")
    assert (folder / "thing-1.0.jar").read_bytes() == CONTENT
    repository.unlink()
    assert ensure_jars(folder) == folder


def test_a_damaged_jar_is_fetched_again(repository: Path, tmp_path: Path) -> None:
    folder = ensure_jars(tmp_path / "kafka")
    (folder / "thing-1.0.jar").write_bytes(CONTENT[:5])
    ensure_jars(folder)
    assert (folder / "thing-1.0.jar").read_bytes() == CONTENT


def test_a_jar_with_other_content_than_listed_is_never_used(repository: Path, tmp_path: Path) -> None:
    repository.write_bytes(b"something else")
    with pytest.raises(JarsUnavailable, match="SHA-256"):
        ensure_jars(tmp_path / "kafka")
    assert not (tmp_path / "kafka" / "thing-1.0.jar").exists()


def test_a_repository_that_is_away_is_reported_with_what_would_help(repository: Path, tmp_path: Path) -> None:
    repository.unlink()
    with pytest.raises(JarsUnavailable, match=kafka_jars.REPOSITORY_VARIABLE):
        ensure_jars(tmp_path / "kafka")


def test_the_committed_list_is_well_formed() -> None:
    jars = listed()
    assert {"kafka_2.13", "kafka-clients", "slf4j-simple"} <= {jar.artifact for jar in jars}
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert len({jar.file_name for jar in jars}) == len(jars)
