"""The jars of Apache Kafka, fetched once into the project's own `.tools/kafka` and verified.

Maven fetches them where it is installed. Where it is not, or where `TOKENTIDE_MAVEN_URL` names a repository
(a mirror, or a folder as `file:///…`), they are downloaded directly. Either way a jar is used only if its
SHA-256 is the one in `kafka_jars.txt`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).parent / "kafka_jars.txt"
FOLDER = Path(__file__).parents[2] / ".tools" / "kafka"
REPOSITORY_VARIABLE = "TOKENTIDE_MAVEN_URL"
_CENTRAL = "https://repo1.maven.org/maven2"
_ATTEMPTS = 3


class JarsUnavailable(RuntimeError):
    """Apache Kafka cannot be fetched; the message says what would help."""


@dataclass(frozen=True)
class Jar:
    """One line of the list."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path_in_repository(self) -> str:
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file_name}"


def listed() -> list[Jar]:
    """Return the pinned jars."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return [Jar(*coordinates.split(":"), sha256) for coordinates, sha256 in (line.split() for line in lines)]


def ensure_jars(folder: Path = FOLDER) -> Path:
    """Return the folder with every pinned jar in it, fetching those that are missing or damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in listed() if not _is_good(folder / jar.file_name, jar)]
    if not missing:
        return folder
    _tell(f"fetching Apache Kafka for the tests: {len(missing)} jars into {folder}")
    maven = shutil.which("mvn")
    repository = os.environ.get(REPOSITORY_VARIABLE)
    with tempfile.TemporaryDirectory(dir=folder) as arriving:
        if maven and not repository:
            _fetch_with_maven(maven, missing, Path(arriving))
        else:
            _download(repository or _CENTRAL, missing, Path(arriving))
        for jar in missing:
            arrived = Path(arriving) / jar.file_name
            if not _is_good(arrived, jar):
                raise JarsUnavailable(
                    f"{jar.file_name} is not the file that {LIST.name} names (SHA-256 differs)"
                )
            arrived.replace(
                folder / jar.file_name
            )  # whole or not at all: several test runs may do this at once
    return folder


def _fetch_with_maven(maven: str, jars: list[Jar], target: Path) -> None:
    pom = target / "pom.xml"
    pom.write_text(_project_of(jars))
    command = [
        maven,
        "-B",
        "-q",
        "-f",
        str(pom),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={target}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise JarsUnavailable(
            f"Maven could not fetch Apache Kafka. {_advice()}\n{(done.stdout + done.stderr)[-2000:]}"
        )


def _project_of(jars: list[Jar]) -> str:
    # Exactly the listed jars: nothing that they depend on beyond the list.
    dependencies = "".join(
        f"<dependency><groupId>{jar.group}</groupId><artifactId>{jar.artifact}</artifactId>"
        f"<version>{jar.version}</version><exclusions><exclusion><groupId>*</groupId>"
        "<artifactId>*</artifactId></exclusion></exclusions></dependency>"
        for jar in jars
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def _download(repository: str, jars: list[Jar], target: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        for count, _ in enumerate(threads.map(lambda jar: _download_one(repository, jar, target), jars), 1):
            if count % 10 == 0 or count == len(jars):
                _tell(f"  {count} of {len(jars)} jars")


def _download_one(repository: str, jar: Jar, target: Path) -> None:
    url = f"{repository.rstrip('/')}/{jar.path_in_repository}"
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                (target / jar.file_name).write_bytes(answer.read())
        except OSError as exc:
            if attempt == _ATTEMPTS:
                raise JarsUnavailable(f"cannot fetch {url}: {exc}. {_advice()}") from exc
        else:
            return


def _advice() -> str:
    return f"Is the network there? {REPOSITORY_VARIABLE} names another Maven repository to fetch from."


def _is_good(path: Path, jar: Jar) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


def _tell(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)
