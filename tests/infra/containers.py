"""Brokers and stores in containers, where a Docker daemon answers."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from infra.process import free_port

REDPANDA_IMAGE = "docker.redpanda.com/redpandadata/redpanda:v26.2.3"
CLICKHOUSE_IMAGE = "clickhouse/clickhouse-server:26.9.6.6"
_DOCKER_API = "1.44"  # the oldest that current daemons speak


@cache
def docker_answers() -> bool:
    """Say whether a Docker daemon answers within two seconds."""
    import docker
    from docker.errors import DockerException

    if not _socket_exists():
        return False
    # A fixed API version: without one, the client connects while it is made, and leaks on failure.
    client = docker.DockerClient.from_env(version=_DOCKER_API, timeout=2)
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def _socket_exists() -> bool:
    # The client leaks its socket when there is nobody at the other end: look first.
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return not host.startswith("unix://") or Path(host.removeprefix("unix://")).is_socket()


class _Container:
    """The verbs of a process, on a container whose port stays the same across restarts."""

    def __init__(self, container: object) -> None:
        self._container = container

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def restart(self) -> None:
        self._container.get_wrapped_container().restart()

    def stop(self) -> None:
        self._container.stop()


class Redpanda(_Container):
    """One Redpanda broker; durable for as long as its container exists."""

    name = "redpanda"
    durable = True
    session_ms = 6_000

    def __init__(self, folder: Path) -> None:
        from testcontainers.community.kafka import RedpandaContainer

        self.port = free_port()
        container = RedpandaContainer(REDPANDA_IMAGE).with_bind_ports(9092, self.port)
        container.start(timeout=60)
        super().__init__(container)
        self.url = f"kafka://{container.get_bootstrap_server()}"
        (folder / "redpanda.log").write_text(f"container {container.get_wrapped_container().id}\n")


class ClickHouseServer(_Container):
    """One ClickHouse server, spoken to over HTTP."""

    name = "clickhouse"

    def __init__(self) -> None:
        from testcontainers.community.clickhouse import ClickHouseContainer

        self.port = free_port()
        container = ClickHouseContainer(
            CLICKHOUSE_IMAGE, username="test", password="test", dbname="test"
        ).with_bind_ports(8123, self.port)
        container.start()
        super().__init__(container)
        self.url = f"clickhouse://test:test@{container.get_container_host_ip()}:{self.port}"

    def database_url(self, database: str) -> str:
        return f"{self.url}/{database}"
