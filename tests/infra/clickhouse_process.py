"""ClickHouse as a process that tests can kill, freeze and make fail: chDB behind the HTTP protocol.

    python clickhouse_process.py DIRECTORY PORT

Speaks what ClickHouse clients send over HTTP (statement in the body or in `query=`, `param_x`, settings,
`database`), runs requests at the same time, and keeps its data and its deduplication tokens across kill -9.

`POST /__fault` with a JSON object makes the requests after it fail; `{}` heals. Fields, all optional:
  delay: seconds to wait before the statement     code, message: answer this error instead of running it
  readonly: refuse everything but reads (164)     drop_after: run it, then cut the connection unanswered
  inserts_only: only INSERTs are affected         containing: only statements that contain this text
  times: heal after so many affected requests
What this process cannot show is how a server cuts an insert into chunks: that needs a real server.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import queue
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import clickhouse_connect
from clickhouse_connect.driver._backend.chdb_backend import CHDB_TRANSPORT_SETTINGS, ChdbBackend
from clickhouse_connect.driver._backend.models import QueryRuntime
from clickhouse_connect.driver.client import Client

_CONNECTIONS = 6
# Parameters of a URL that are no settings of the statement.
_TRANSPORT = CHDB_TRANSPORT_SETTINGS | {
    "cancel_http_readonly_queries_on_client_close",
    "default_format",
    "password",
    "query",
    "user",
}
_INSERT_IN_BODY = re.compile(rb"\s*INSERT\s+INTO\b[^;]*?\bFORMAT\s+\w+\s*?\n", re.IGNORECASE)
_INSERT = re.compile(
    r"\s*INSERT\s+INTO\s+(\S+)\s*(\([^)]*\))?.*?FORMAT\s+(\w+)\s*$", re.IGNORECASE | re.DOTALL
)
_READ = re.compile(r"\s*(SELECT|SHOW|DESC|EXISTS|WITH|EXPLAIN)\b", re.IGNORECASE)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)


@dataclass
class Request:
    """One statement as a client sent it."""

    sql: str
    block: bytes
    database: str
    settings: dict[str, str]
    params: dict[str, str]
    default_format: str

    @property
    def inserts(self) -> bool:
        return re.match(r"\s*INSERT\b", self.sql, re.IGNORECASE) is not None

    @property
    def reads(self) -> bool:
        return _READ.match(self.sql) is not None


@dataclass
class Refusal(Exception):
    """An error in ClickHouse's own terms."""

    code: int
    message: str


@dataclass
class Fault:
    """The fault in force; `take` says what it does to a request."""

    fields: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, fields: dict[str, Any]) -> None:
        with self.lock:
            self.fields = fields

    def take(self, request: Request) -> dict[str, Any]:
        with self.lock:
            fault = self.fields
            if fault.get("inserts_only") and not request.inserts:
                return {}
            if fault.get("containing", "") not in request.sql:
                return {}
            if "times" in fault:
                left = fault["times"] - 1
                self.fields = {**fault, "times": left} if left else {}
            return fault


class Engine:
    """chDB connections to one folder, each used by one request at a time."""

    def __init__(self, directory: str) -> None:
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        for _ in range(_CONNECTIONS):
            self._idle.put(clickhouse_connect.get_client(dsn=f"chdb://{directory}"))

    @contextlib.contextmanager
    def connection(self, database: str) -> Iterator[Client]:
        client = self._idle.get()
        try:
            client.database = database
            yield client
        finally:
            self._idle.put(client)

    def close(self) -> None:
        for _ in range(_CONNECTIONS):
            self._idle.get().close()


def run(engine: Engine, request: Request) -> tuple[bytes, str]:
    """Run a statement; return its answer and the format of it ('' where there is none)."""
    try:
        with engine.connection(request.database) as client:
            if request.inserts and request.block:
                return _insert(client, request), ""
            return _statement(client, request)
    except Refusal:
        raise
    except Exception as exc:
        code = re.search(r"[Cc]ode: (\d+)", str(exc))
        raise Refusal(int(code[1]) if code else 1000, str(exc).splitlines()[0]) from exc


def _insert(client: Client, request: Request) -> bytes:
    parts = _INSERT.match(request.sql)
    if parts is None:
        raise Refusal(62, "Syntax error: an INSERT with data needs a FORMAT")
    table, columns, fmt = parts.groups()
    names = [name.strip().strip("`") for name in columns[1:-1].split(",")] if columns else None
    client.raw_insert(table, names, insert_block=request.block, settings=request.settings, fmt=fmt)
    return b""


def _statement(client: Client, request: Request) -> tuple[bytes, str]:
    # Straight to the engine's backend: the client's own methods would escape the parameters once more.
    backend: ChdbBackend = client._backend
    runtime = QueryRuntime(database=request.database, settings=request.settings)
    if not request.reads:
        backend.execute_command(request.sql, request.params, None, None, runtime, None)
        return b"", ""
    found = _FORMAT.search(request.sql)
    fmt = found[1] if found else request.default_format
    sql = request.sql if found else f"{request.sql}\nFORMAT {fmt}"
    return backend.execute_raw_query(sql, request.params, None, runtime, None), fmt


def _refuse(fault: dict[str, Any], request: Request) -> None:
    if fault.get("readonly") and not request.reads:
        raise Refusal(164, "Cannot execute query in readonly mode. (READONLY)")
    if fault.get("code"):
        raise Refusal(fault["code"], fault.get("message", "injected"))


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is for crashes."""

    def do_GET(self) -> None:
        if self.path.startswith("/ping"):
            self._answer(200, b"Ok.\n")
        else:
            self._statement(b"")

    def do_POST(self) -> None:
        body = _decompressed(self._body(), self.headers.get("Content-Encoding", ""))
        if self.path.startswith("/__fault"):
            self.server.fault.put(json.loads(body))
            self._answer(200, b"ok")
        else:
            self._statement(body)

    def _statement(self, body: bytes) -> None:
        content_type = self.headers.get("Content-Type", "")
        fields = _form_fields(content_type, body) if content_type.startswith("multipart/form-data") else {}
        request = _parsed(self.path, b"" if fields else body, fields)
        fault = self.server.fault.take(request)
        time.sleep(fault.get("delay", 0))
        try:
            _refuse(fault, request)
            answer, fmt = run(self.server.engine, request)
        except Refusal as refusal:
            text = f"Code: {refusal.code}. DB::Exception: {refusal.message}"
            return self._answer(500, text.encode(), {"X-ClickHouse-Exception-Code": str(refusal.code)})
        if fault.get("drop_after"):
            # Applied, and the sender never hears of it. A plain close would leave its client waiting.
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        headers = {"X-ClickHouse-Summary": "{}", "X-ClickHouse-Timezone": "UTC"}
        return self._answer(200, answer, {**headers, **({"X-ClickHouse-Format": fmt} if fmt else {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)


class Server(ThreadingHTTPServer):
    """The listening socket, the engine and the fault in force."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, directory: str, port: int) -> None:
        self.engine, self.fault = Engine(directory), Fault()
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no crash."""


def _form_fields(content_type: str, body: bytes) -> dict[str, str]:
    """Read a form, as clients send it when parameters are too long for a URL."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    parts = message_from_bytes(head + body, policy=policy.HTTP).iter_parts()
    return {str(p.get_param("name", header="content-disposition")): p.get_content().strip() for p in parts}


def _parsed(path: str, body: bytes, fields: dict[str, str]) -> Request:
    query = dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)) | fields
    sql, block = query.get("query", ""), body
    if not sql:
        head = _INSERT_IN_BODY.match(body)
        sql, block = (head[0].decode(), body[head.end() :]) if head else (body.decode(), b"")
    params = {n: v for n, v in query.items() if n.startswith("param_")}
    settings = {n: v for n, v in query.items() if n not in _TRANSPORT and not n.startswith("param_")}
    return Request(
        sql=sql.rstrip(),
        block=block,
        database=query.get("database") or "default",
        settings=settings,
        params=params,
        default_format=query.get("default_format") or "TabSeparated",
    )


def _decompressed(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "zstd":
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
        case "lz4":
            import lz4.frame

            return bytes(lz4.frame.decompress(body))
    return body


def main() -> None:
    """Serve until SIGTERM."""
    server = Server(sys.argv[1], int(sys.argv[2]))
    # `shutdown` waits for the serving loop, which is this thread: it must be called from another one.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    server.engine.close()


if __name__ == "__main__":
    main()
