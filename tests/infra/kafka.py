"""Apache Kafka as one process: a KRaft node that is broker and controller, small, quick and durable."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.kafka_prepared import prepared
from infra.process import Process, free_port, listens

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A killed broker is let in again only when its old session has ended: 9 s by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
"""


class Kafka:
    """One Kafka broker with its data in `folder`; a restart finds every acknowledged record again."""

    name = "kafka"
    durable = True
    session_ms = 6_000

    def __init__(self, folder: Path, *, advertised_port: int | None = None) -> None:
        start = prepared(_PROPERTIES)
        self.port = free_port()
        self.url = f"kafka://127.0.0.1:{advertised_port or self.port}"
        properties = folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                port=self.port,
                advertised=advertised_port or self.port,
                controller=free_port(),
                data=folder / "data",
            )
        )
        shutil.copytree(start.formatted, folder / "data")
        self._process = Process(
            [*start.command, str(properties)],
            log=folder / "kafka.log",
            ready=lambda: listens(self.port),
        )
        self._process.start()
        self.kill, self.stop = self._process.kill, self._process.stop
        self.pause, self.resume = self._process.pause, self._process.resume
        self.restart = self._process.restart
