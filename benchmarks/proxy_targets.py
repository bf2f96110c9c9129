"""The proxies under measurement, each in processes of its own on one core, before the same provider."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import parts
from tokentide_common.accounts import create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.provider_credentials import Vault, keep_credential

_COMPILE: Final = (sys.executable, str(parts.ROOT / "services/proxy/compile.py"))
_SECRET_KEY: Final = "of-a-benchmark-0123456789abcdef-0123456789abcdef"
_NGINX: Final = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
{user}
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    client_body_buffer_size 128k;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class Target(NamedTuple):
    """A proxy that serves."""

    name: str
    port: int
    pid: int
    key: str = "none"
    path: str = "/v1/messages"
    headers: tuple[str, ...] = ()


def cores() -> tuple[int, int]:
    """Return the core of clients and provider, and that of the proxies; -1 where nothing can be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return -1, -1
    found = sorted(os.sched_getaffinity(0))
    return (found[0], found[-1]) if len(found) > 1 else (-1, -1)


def pin(core: int, pid: int = 0) -> None:
    """Keep a process, this one by default, on one core; what it starts later stays there as well."""
    if core >= 0:
        os.sched_setaffinity(pid, {core})


@contextlib.contextmanager
def provider(core: int) -> Iterator[int]:
    """The fast provider of `proxy_upstream.py`; yields its port."""
    command = [sys.executable, str(parts.ROOT / "benchmarks" / "proxy_upstream.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pin(core, process.pid)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        _end(process)


@contextlib.contextmanager
def nginx(upstream: int, folder: Path, core: int) -> Iterator[Target]:
    """One worker that buffers nothing and keeps its connections to the provider."""
    port = _free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, upstream=upstream, port=port, user=user))
    command = ["nginx", "-e", f"{folder}/nginx.log", "-c", str(config), "-p", str(folder)]
    with _serving(command, port, folder / "nginx.out", core) as pid:
        yield Target("nginx", port, pid)


@contextlib.contextmanager
def ours(
    upstream: int, broker_url: str, folder: Path, core: int, sources: Path | None = None
) -> Iterator[Target]:
    """The service as it runs: managed keys, and every event to the broker; `sources` may be compiled."""
    database_url = f"sqlite:///{folder}/accounts.db"
    engine = open_database(database_url)
    org_id = create_organization(engine, "Bench")
    keep_credential(engine, Vault(_SECRET_KEY), org_id, "anthropic", "sk-ant-api03-of-a-benchmark")
    key, _ = issue_key(engine, org_id, "p")
    engine.dispose()
    port = _free_port()
    settings = {
        "TOKENTIDE_BROKER_URL": broker_url,
        "TOKENTIDE_DATABASE_URL": database_url,
        "TOKENTIDE_SECRET_KEY": _SECRET_KEY,
        "TOKENTIDE_PROXY_PORT": str(port),
        "TOKENTIDE_PROXY_SPOOL_DIR": str(folder / "spool"),
        "TOKENTIDE_PROXY_UPSTREAMS": f"anthropic=anthropic+http://127.0.0.1:{upstream}",
        **_found_first(sources),
    }
    command = [sys.executable, "-m", "tokentide_proxy"]
    with _serving(command, port, folder / "proxy.log", core, settings) as pid:
        yield Target("ours", port, pid, key)


@contextlib.contextmanager
def plain(upstream: int, folder: Path, core: int, sources: Path | None = None) -> Iterator[Target]:
    """Our forwarding alone: nobody's key is checked, nothing is read and nothing is noted."""
    port = _free_port()
    command = [sys.executable, str(parts.ROOT / "benchmarks" / "proxy_plain.py"), str(port), str(upstream)]
    with _serving(command, port, folder / "plain.log", core, _found_first(sources)) as pid:
        # On a path that no call of a model has, no usage is looked for.
        yield Target("plain", port, pid, path="/v1/plain")


@contextlib.contextmanager
def floor(upstream: int, folder: Path, core: int) -> Iterator[Target]:
    """The least that a proxy in Python takes."""
    port = _free_port()
    command = [sys.executable, str(parts.ROOT / "benchmarks" / "proxy_floor.py"), str(port), str(upstream)]
    with _serving(command, port, folder / "floor.log", core) as pid:
        yield Target("floor", port, pid)


@contextlib.contextmanager
def litellm(upstream: int, folder: Path, core: int) -> Iterator[Target]:
    """LiteLLM as it comes, one worker, no database, its master key checked."""
    port = _free_port()
    model = {
        "model": "anthropic/claude-sonnet-4-5",
        "api_base": f"http://127.0.0.1:{upstream}",
        "api_key": "sk-ant-bench",
    }
    config = {
        "model_list": [{"model_name": "claude-sonnet-4-5", "litellm_params": model}],
        "general_settings": {"master_key": "sk-bench"},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # which is YAML as well
    command = [_litellm() or "litellm", "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _serving(command, port, folder / "litellm.log", core, environment) as pid:
        yield Target("LiteLLM", port, pid, "sk-bench")


@contextlib.contextmanager
def portkey(upstream: int, folder: Path, core: int) -> Iterator[Target]:
    """Portkey's gateway as it comes."""
    port = _free_port()
    script = _portkey()
    assert script is not None
    command = ["node", str(script), f"--port={port}", "--headless"]
    with _serving(command, port, folder / "portkey.log", core, {"NODE_ENV": "production"}) as pid:
        to = ("x-portkey-provider: anthropic", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
        yield Target("Portkey", port, pid, "sk-ant-bench", headers=to)


def compiled(folder: Path) -> Path:
    """Compile the proxy as images have it, and return where it is."""
    subprocess.run([*_COMPILE, "--into", str(folder)], stdout=subprocess.DEVNULL, check=True)
    return folder


def missing() -> dict[str, str]:
    """Return what cannot be measured beside us, and why."""
    said = {}
    if shutil.which("nginx") is None:
        said["nginx"] = "no `nginx` on PATH (Debian: apt-get install nginx)"
    checked = subprocess.run([*_COMPILE, "--check"], capture_output=True, text=True, check=False)
    if checked.returncode:
        said["compiler"] = checked.stderr.strip()
    if _litellm() is None:
        said["LiteLLM"] = "no `litellm` on PATH nor at BENCH_LITELLM"
    if _portkey() is None:
        said["Portkey"] = (
            "BENCH_PORTKEY does not name a folder with @portkey-ai/gateway, or `node` is not on PATH"
        )
    return said


def _found_first(sources: Path | None) -> dict[str, str]:
    return {} if sources is None else {"PYTHONPATH": str(sources)}


def _litellm() -> str | None:
    return shutil.which(os.environ.get("BENCH_LITELLM", "litellm"))


def _portkey() -> Path | None:
    script = (
        Path(os.environ.get("BENCH_PORTKEY", "")) / "node_modules/@portkey-ai/gateway/build/start-server.js"
    )
    return script if script.exists() and shutil.which("node") is not None else None


@contextlib.contextmanager
def _serving(
    command: Sequence[str], port: int, log: Path, core: int, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKENTIDE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**inherited, **(environment or {})}
        )
    pin(core, process.pid)
    try:
        _until_listening(process, port, log)
        yield process.pid
    finally:
        _end(process)


def _until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
