"""The OpenTelemetry Collector, built from its pinned Go modules into `.tools` of this project, and run.

Building needs Go and its module proxy, minutes of CPU and a gigabyte for the time being. What is kept is the
binary alone: Go's caches of the user are neither used nor filled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import parts

SOURCE: Final = parts.ROOT / "benchmarks" / "otelcol"
BUILT: Final = parts.ROOT / ".tools" / "otelcol"
BUILD_DEADLINE_S: Final = 1800
_GO_BY_ITSELF: Final = "/usr/local/go/bin/go"
"""Where Go's own archive installs it; that folder is not on every PATH."""


class Unavailable(Exception):
    """The Collector cannot be had on this machine; says why."""


def binary() -> Path:
    """Return the Collector's executable, built first if it is not there as its sources say."""
    built = BUILT / f"otelcol-{_fingerprint()}"
    if not built.exists():
        _build(built)
    return built


def _fingerprint() -> str:
    sources = sorted(path for path in SOURCE.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def _build(built: Path) -> None:
    go = shutil.which("go") or shutil.which(_GO_BY_ITSELF)
    if go is None:
        raise Unavailable("Go is not on this machine")
    shutil.rmtree(BUILT, ignore_errors=True)
    BUILT.mkdir(parents=True)
    print(f"building the OpenTelemetry Collector with {go}: minutes, once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=BUILT, ignore_cleanup_errors=True) as folder:
        caches = {
            "GOMODCACHE": f"{folder}/modules",
            "GOCACHE": f"{folder}/objects",
            "GOFLAGS": "-modcacherw -mod=readonly",
        }
        command = [go, "build", "-trimpath", "-ldflags=-s -w", "-o", f"{folder}/otelcol", "."]
        try:
            done = subprocess.run(
                command,
                cwd=SOURCE,
                env={**os.environ, **caches},
                capture_output=True,
                text=True,
                timeout=BUILD_DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"its build took more than {BUILD_DEADLINE_S} s") from None
        if done.returncode:
            raise Unavailable(f"its build failed: {(done.stderr.splitlines() or ['(it said nothing)'])[-1]}")
        Path(folder, "otelcol").rename(built)


@contextlib.contextmanager
def running(executable: Path, broker_url: str, topic: str, log: Path) -> Iterator[tuple[int, int, int]]:
    """Run it on one core; yields its port for HTTP, its port for gRPC and its process id."""
    from infra.process import Process, free_port, listens

    http, grpc = free_port(), free_port()
    process = Process(
        [str(executable), "--config", str(SOURCE / "config.yaml")],
        log=log,
        ready=lambda: listens(http) and listens(grpc),
        environment={
            "HTTP_PORT": str(http),
            "GRPC_PORT": str(grpc),
            "BROKER": broker_url.removeprefix("kafka://"),
            "TOPIC": topic,
            "GOMAXPROCS": "1",
        },
    )
    process.start()
    try:
        yield http, grpc, process.pid
    finally:
        process.stop()
