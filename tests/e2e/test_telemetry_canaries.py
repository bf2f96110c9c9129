"""Clients that are set to send everything: none of their content stays anywhere in the running system.

The canaries are what the captured clients really said: every text under an attribute of content.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.test_canaries import TESTS, found, in_files, on_topics
from infra.embedded import Embedded
from infra.manifests import RUNS
from infra.otlp_bodies import REQUESTS, captures, in_both_encodings
from infra.telemetry import Exporter, Payload, payloads
from tokentide_ingest.otlp.kept import CONTENT

RUNS_OF = {
    "claude-code": RUNS,
    "codex": ("01-exec-json", "02-resume-protobuf"),
    "gemini-cli": ("01-prompt-http",),
    "opencode": ("01-anthropic",),
}
PLANTED = "CANARY-planted"
# A text this short, such as a tool's success, may be anywhere by chance.
SHORTEST = 16


def attributes(node: Any) -> Iterator[tuple[str, str]]:
    """Every text attribute in a request, however deep."""
    if isinstance(node, list):
        for item in node:
            yield from attributes(item)
    elif isinstance(node, dict):
        value = node.get("value")
        if isinstance(value, dict) and isinstance(value.get("stringValue"), str):
            yield str(node.get("key")), value["stringValue"]
        for item in node.values():
            yield from attributes(item)


def said_by_clients() -> set[str]:
    """The beginnings of all content in all captures."""
    return {
        text[:40]
        for capture in captures()
        for key, text in attributes(json.loads(in_both_encodings(capture)[0]))
        if key in CONTENT and len(text) >= SHORTEST and not text.startswith("<REDACTED")
    }


def planted() -> Payload:
    """A request with a canary wherever OTLP has room for a text."""
    text = {"stringValue": PLANTED}
    attribute = [{"key": key, "value": text} for key in sorted(CONTENT | {PLANTED, "my.own"})]
    record = {
        "body": text,
        "timeUnixNano": "1795310328000000000",
        "severityText": PLANTED,
        "attributes": [
            *({"key": "event.name", "value": {"stringValue": name}} for name in ("api_request",)),
            *({"key": key, "value": {"stringValue": "5"}} for key in ("input_tokens", "output_tokens")),
            {"key": "request_id", "value": {"stringValue": "req_planted_otlp"}},
            {"key": "model", "value": {"stringValue": "claude-sonnet-5-5"}},
            {"key": "list", "value": {"arrayValue": {"values": [text]}}},
            *attribute,
        ],
    }
    scope = {"name": "com.anthropic.claude_code.events", "attributes": attribute}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}}, *attribute]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": [record]}]}]}
    headers = {"content-type": "application/json", "user-agent": PLANTED, "x-planted": PLANTED}
    return Payload("planted", "planted", "http", "/v1/logs", headers, json.dumps(body).encode())


async def test_no_content_of_any_client_stays_anywhere(own_system: Embedded, tmp_path: Path) -> None:
    own_system.start(TOKENTIDE_OTLP_TAG_ATTRIBUTES="prompt,tool_parameters,my.own.absent")
    exporter = Exporter(own_system.ready, own_system.credentials["machine_key"])
    sent = [payload for client, runs in RUNS_OF.items() for run in runs for payload in payloads(run, client)]
    exporter.send_all([*sent, planted()])
    exporter.close()
    topics = list(await on_topics(own_system.ready["broker"]))
    assert any(b"req_planted_otlp" in content for _, content in topics)
    assert own_system.end() == 0
    stored = subprocess.run(
        [sys.executable, "-m", "infra.stored_rows", str(own_system.data_dir / "clickhouse")],
        cwd=TESTS,
        capture_output=True,
        check=True,
    ).stdout
    assert b"req_planted_otlp" in stored
    assert b"-- activity" in stored
    words = said_by_clients()
    assert len(words) > 10, sorted(words)
    everywhere = [
        *topics,
        ("tables", stored),
        *in_files(own_system.data_dir),
        ("stdout", own_system.out.encode()),
        ("stderr", own_system.err.encode()),
    ]
    assert found((PLANTED.encode(), *(word.encode() for word in words)), everywhere) == set()


def test_the_requests_of_all_signals_are_among_the_captures() -> None:
    assert {capture.signal for capture in captures()} == set(REQUESTS)
