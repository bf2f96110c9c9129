"""OTLP log records per CPU-second without a transport, in JSON and in protobuf: decoded, and all the way.

The reference shape is 200 calls of 15 attributes each, of which 7 repeat from record to record and 8 differ,
as Claude Code sends them. Measured are a body into flat records, with msgspec and upb parsing the same body
and nothing else beside it, and a body into records for the topics: mapped, judged, stamped and encoded.

    python benchmarks/otlp_decode.py
"""

from __future__ import annotations

import argparse
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from statistics import median
from typing import Any

import msgspec
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

import report
from tokentide_common.accounts import KeyRecord
from tokentide_ingest.__main__ import tune_garbage_collection
from tokentide_ingest.otlp.decoding import Encoding, decode_logs
from tokentide_ingest.otlp.export import Export, read_export
from tokentide_ingest.otlp.kept import KEPT

RECORDS = 200
BURST = 10
START_NS = 1_795_310_329_046_000_000
NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
KEY = KeyRecord(key_id="k", org_id="o", kind="m", machine_id="mbp-1", project="tokentide")
GOALS: dict[Encoding, int] = {"json": 40_000, "protobuf": 25_000}
REPEATED = {
    "user.id": "23a00785fe8fd30d988ea94a777670841c90103dc0de8ca5a7ca482422f07b8a",
    "session.id": "9e81d5ca-2a3b-416e-9403-742f059bbe11",
    "terminal.type": "xterm-256color",
    "event.name": "api_request",
    "model": "claude-sonnet-5-5",
    "speed": "normal",
    "query_source": "sdk",
}


def reference_request(records: int = RECORDS, seed: int = 1) -> ExportLogsServiceRequest:
    """Return a request of the reference shape; every seed makes other calls."""
    rng = random.Random(seed)
    request = ExportLogsServiceRequest()
    container = request.resource_logs.add()
    for key, value in (("service.name", "claude-code"), ("service.version", "2.1.330"), ("os.type", "linux")):
        _put(container.resource.attributes, key, value)
    scope = container.scope_logs.add()
    scope.scope.name = "com.anthropic.claude_code.events"
    for index in range(records):
        record = scope.log_records.add()
        record.time_unix_nano = record.observed_time_unix_nano = START_NS + index * 1_000_000
        record.body.string_value = "claude_code.api_request"
        for key, value in {**REPEATED, **_call(index, rng)}.items():
            _put(record.attributes, key, value)
    return request


def bodies(request: ExportLogsServiceRequest) -> dict[Encoding, bytes]:
    """Return a request in both encodings, in JSON with whole numbers bare, as Claude Code writes them."""
    as_json = msgspec.json.encode(json_format.MessageToDict(request))
    bare = re.sub(rb'"intValue":"(\d+)"', rb'"intValue":\1', as_json)
    return {"json": bare, "protobuf": request.SerializeToString()}


def _call(index: int, rng: random.Random) -> dict[str, str | int | float]:
    return {
        "event.timestamp": f"2026-11-22T01:18:{index // 1000 % 60:02}.{index % 1000:03}Z",
        "event.sequence": index,
        "request_id": f"req_{uuid.UUID(int=rng.getrandbits(128)).hex[:24]}",
        "input_tokens": rng.randrange(1, 100),
        "output_tokens": rng.randrange(1, 5_000),
        "cache_read_tokens": rng.randrange(1, 200_000),
        "cost_usd": rng.random(),
        "duration_ms": rng.randrange(1, 60_000),
    }


def _put(attributes: Any, key: str, value: str | int | float) -> None:
    kind = {str: "string_value", int: "int_value", float: "double_value"}[type(value)]
    pair = KeyValue(key=key)
    setattr(pair.value, kind, value)
    attributes.append(pair)


def per_cpu_second(decode: Callable[[bytes], object], body: bytes, rounds: int) -> float:
    """Return how many records `decode` does in a second of CPU, the median of all rounds."""
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(BURST):
            decode(body)
        seconds.append((time.process_time() - started) / BURST)
    return RECORDS / median(seconds)


def lines(rounds: int) -> Iterator[report.Line]:
    """Measure both encodings."""
    tune_garbage_collection()
    parse = {"json": msgspec.json.Decoder().decode, "protobuf": ExportLogsServiceRequest.FromString}
    for encoding, body in bodies(reference_request()).items():
        assert len(_exported(body, encoding).events) == RECORDS
        alone = per_cpu_second(parse[encoding], body, rounds)
        flat = per_cpu_second(lambda body, encoding=encoding: decode_logs(body, encoding, KEPT), body, rounds)
        whole = per_cpu_second(lambda body, encoding=encoding: _exported(body, encoding), body, rounds)
        size = f"{len(body) / RECORDS:.0f} bytes a record"
        yield _line(encoding, "decoded", flat, f"{flat:,.0f}; {alone:,.0f} only parsed; {size}")
        yield _line(encoding, "to records for the topics", whole, f"{whole:,.0f}")


def _exported(body: bytes, encoding: Encoding) -> Export:
    return read_export("logs", body, encoding, KEY, now=NOW, tags={})


def _line(encoding: Encoding, what: str, value: float, note: str) -> report.Line:
    goal = GOALS[encoding]
    what = f"log records per CPU-second, {encoding}, {what}"
    return report.Line("otlp_decode", what, value, unit="records", goal=goal, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report.show(list(lines(options.rounds)), as_json=options.json)


if __name__ == "__main__":
    main()
