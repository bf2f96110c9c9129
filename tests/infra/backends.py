"""Which real parts a test run uses, decided once and said aloud."""

from __future__ import annotations

import os
from pathlib import Path

from infra.brokers import Broker
from infra.containers import Redpanda, docker_answers
from infra.kafka import Kafka

BROKER_VARIABLE = "TOKENTIDE_TEST_BROKER"
_CHOICES = ("redpanda", "kafka", "tansu")


def durable_broker_name() -> str:
    """Return the durable broker of this run; 'tansu' means: none, by request.

    Without a request: Redpanda where Docker answers, Apache Kafka everywhere else.
    A broker that is requested and cannot be had fails the tests that need it; nothing is skipped silently.
    """
    asked = os.environ.get(BROKER_VARIABLE, "")
    if asked and asked not in _CHOICES:
        raise RuntimeError(f"{BROKER_VARIABLE}={asked}: it must be one of {', '.join(_CHOICES)}")
    return asked or ("redpanda" if docker_answers() else "kafka")


def start_durable_broker(folder: Path) -> Broker:
    """Start the durable broker of this run with its data in `folder`."""
    if durable_broker_name() == "redpanda":
        if not docker_answers():
            raise RuntimeError(f"{BROKER_VARIABLE}=redpanda needs Docker, and no Docker daemon answers")
        return Redpanda(folder)
    return Kafka(folder)


def described() -> str:
    """Return the line about brokers and stores for the head of a test report."""
    durable = {
        "redpanda": "Redpanda (Docker)",
        "kafka": "Apache Kafka (JVM)",
        "tansu": f"none, by {BROKER_VARIABLE}=tansu",
    }[durable_broker_name()]
    server = (
        "ClickHouse server (Docker)" if docker_answers() else "no ClickHouse server: Docker does not answer"
    )
    return f"brokers: Tansu, durable: {durable}; stores: chDB, chDB over HTTP, {server}"
