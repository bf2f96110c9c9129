"""What makes Apache Kafka quick to start, made once per machine and kept beside its jars.

A formatted data folder, so that no JVM of its own has to format each; and, from Java 25 on, the JVM's cache
of Kafka's classes, which saves most of a start.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from infra.java import find_java, major_version
from infra.kafka_jars import FOLDER, ensure_jars
from infra.process import Process, free_port, listens

JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
# Classes only: Java 25 warns of pieces of machine code that it has kept and cannot use.
_CLASSES_ONLY = ("-XX:+UnlockDiagnosticVMOptions", "-XX:-AOTAdapterCaching", "-XX:-AOTStubCaching")
_CLUSTER_ID = "A" * 22
_CACHES_CLASSES = 25
_START_AND_STOP_S = 120.0


class Prepared(NamedTuple):
    """How to start a broker: the command up to its properties, and the data folder to start from."""

    command: list[str]
    formatted: Path


@cache
def prepared(properties: str) -> Prepared:
    """Return what is prepared for brokers with such properties, preparing it if nobody has yet.

    `properties` has `{port}`, `{advertised}`, `{controller}` and `{data}` to be filled in.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with _alone(FOLDER / "lock"):
        java, jars = find_java(), ensure_jars()
        found = [(str(jar), jar.stat().st_mtime_ns) for jar in sorted(jars.glob("*.jar"))]
        stated = repr((java, Path(java).stat().st_mtime_ns, JVM, properties, found))
        ready = jars / f"prepared-{hashlib.sha256(stated.encode()).hexdigest()[:16]}"
        classes = ready / "classes.aot"
        if not ready.exists():
            with tempfile.TemporaryDirectory(dir=jars) as making:
                _prepare(Path(making), [java, *JVM, "-cp", f"{jars}/*"], properties)
                (Path(making) / "ready").rename(ready)
    cached = [*_CLASSES_ONLY, f"-XX:AOTCache={classes}"] if classes.exists() else []
    return Prepared([java, *cached, *JVM, "-cp", f"{jars}/*", "kafka.Kafka"], ready / "data")


def _prepare(making: Path, java: list[str], properties: str) -> None:
    """Fill `making/ready`: a data folder as it is formatted, and the classes that a broker loads."""
    stated, port = making / "server.properties", free_port()
    stated.write_text(
        properties.format(port=port, advertised=port, controller=free_port(), data=making / "data")
    )
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(stated)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Apache Kafka could not format its data folder:\n{done.stdout}{done.stderr}")
    shutil.copytree(making / "data", making / "ready" / "data")
    if major_version(java[0]) < _CACHES_CLASSES:
        return
    output = f"-XX:AOTCacheOutput={making / 'ready' / 'classes.aot'}"
    trained = Process(
        [java[0], *_CLASSES_ONLY, output, *java[1:], "kafka.Kafka", str(stated)],
        log=making / "kafka.log",
        ready=lambda: listens(port),
        start_deadline_s=_START_AND_STOP_S,
    )
    trained.start()
    trained.stop(_START_AND_STOP_S)  # the JVM writes the cache at its end


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other workers out: they would only do the same once more."""
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
