"""OTLP bodies of ten megabytes that a few bytes at a time could be blown up to a hundred times their size."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokentide_common.errors import TooLarge
from tokentide_ingest.otlp.decoding import Encoding, decode_logs

STATUS: Final = Path("/proc/self/status")
SIZE: Final = 10 * 2**20
SMALL: Final = 2**20 - 64
"""As much as is parsed at once."""


def field(number: int, content: bytes) -> bytes:
    """Return a protobuf field that has a length."""
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + content


def logs_json(*records: bytes) -> bytes:
    """Return a request with these records in one scope."""
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b",".join(records) + b"]}]}]}"


def logs_protobuf(*records: bytes) -> bytes:
    """Return a request with these records in one scope."""
    return field(1, field(2, b"".join(field(2, record) for record in records)))


def peak_mb() -> float:
    """Return the most memory that this process ever had. `getrusage` would count its parent's as well."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def too_large(size: int) -> Iterator[tuple[str, Encoding, bytes]]:
    """Yield bodies that are to be refused for what they hold, by name."""

    def times(unit: bytes) -> bytes:
        return unit * (size // len(unit))

    yield "containers", "protobuf", times(field(1, b""))
    yield "scopes", "protobuf", field(1, times(field(2, b"")))
    yield "records", "protobuf", field(1, field(2, times(field(2, b""))))
    yield "named records", "protobuf", field(1, field(2, times(field(2, field(12, b"a")))))
    if size > 2**20:
        yield "numbers", "protobuf", times(b"\x18\x00")
        yield "parts of a resource", "protobuf", field(1, times(field(1, field(1, b""))))
    yield "scopes", "json", b'{"resourceLogs":[{"scopeLogs":[' + times(b"{},") + b"{}]}]}"
    yield "records", "json", logs_json(times(b"{},") + b"{}")
    yield "no records", "json", logs_json(times(b"0,") + b"0")
    yield "named records", "json", logs_json(times(b'{"eventName":"a"},') + b"{}")


def main() -> None:
    """Have every body refused; print the largest growth of memory in MB and the longest time in seconds."""
    slowest = 0.0
    before = peak_mb()
    for size in (SMALL, SIZE):
        for name, encoding, body in too_large(size):
            started = time.process_time()
            try:
                decode_logs(body, encoding, frozenset({"model"}))
            except TooLarge:
                slowest = max(slowest, time.process_time() - started)
            else:
                sys.exit(f"{name} in {encoding} of {size} bytes went through")
    sys.stdout.write(f"{peak_mb() - before:.0f} {slowest:.2f}\n")


if __name__ == "__main__":
    main()
