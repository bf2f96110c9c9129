"""`tokentide statusline` as Claude Code runs it: JSON on standard input, and a server or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.process import free_port
from infra.waiting import until

CANARY = "Canary-5f"
RESET = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
SAID: dict[str, Any] = {
    "session_id": f"{CANARY}-session",
    "transcript_path": f"/home/{CANARY}/transcript.jsonl",
    "cwd": f"/home/{CANARY}/work",
    "workspace": {"current_dir": f"/home/{CANARY}", "project_dir": CANARY},
    "model": {"id": "m", "display_name": "Opus"},
    "output_style": {"name": CANARY},
    "cost": {"total_cost_usd": 0.5},
    "rate_limits": {
        "five_hour": {"used_percentage": 42, "resets_at": RESET.timestamp(), "note": CANARY},
        CANARY: {"used_percentage": 1},
    },
}


class Server:
    """Takes whatever is posted, and says what today cost."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self._answer(202, {"accepted": 1})

            def do_GET(self) -> None:
                self._answer(200, {"cost_usd": "12.25"})

            def _answer(self, status: int, body: object) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.http.shutdown()
    served.http.server_close()
    thread.join()


def line(folder: Path, url: str, said: bytes) -> str:
    """Run the command once; it must succeed and print one line."""
    own = {"TOKENTIDE_KEY": "tt_a_stub", "TOKENTIDE_STATE_DIR": str(folder), "TZ": "UTC"}
    own |= {
        "TOKENTIDE_MACHINE_ID": "m-named",
        "TOKENTIDE_INGEST_URL": url,
        "TOKENTIDE_QUERY_URL": url,
        "TOKENTIDE_DATA_DIR": str(folder),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tokentide", "statusline"],
        input=said,
        capture_output=True,
        env={**os.environ, **own},
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.count(b"\n") == 1
    return ended.stdout.decode().rstrip("\n")


async def test_the_line_is_printed_and_the_windows_reach_the_server_and_nothing_else_does(
    server: Server, tmp_path: Path
) -> None:
    said = json.dumps(SAID).encode()
    assert line(tmp_path, server.url, said).startswith("Opus · session $0.50 · 5h 42 % until ")
    await until(lambda: server.posted, within_s=30, what="the report")
    ((path, body),) = server.posted
    assert path == "/api/v1/cli/limits"
    report = json.loads(body)
    assert report["limits"] == [
        {
            "kind": "unified_5h",
            "utilization": "0.42",
            "window_minutes": 300,
            "resets_at": RESET.isoformat().replace("+00:00", "Z"),
        }
    ]
    assert (report["machine"].keys(), report["machine"]["id"]) == ({"id", "name"}, "m-named")
    assert CANARY.encode() not in body
    await until(lambda: "today $12.25" in line(tmp_path, server.url, said), within_s=30, what="today's cost")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json"))
    assert CANARY.encode() not in kept
    assert len(server.posted) == 1, "what a session has told once it does not tell again"


def test_a_server_that_is_away_and_input_that_is_none_leave_a_line(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    assert line(tmp_path, away, json.dumps(SAID).encode()).startswith("Opus")
    assert line(tmp_path, away, b"{") == "tokentide"
