"""Of what goes through the proxy nothing but usage stays anywhere: no prompt, no answer, no header, no key.

There are canaries in prompts, tools, answers, errors, headers, queries and keys, in requests that are refused
and in answers that are no HTTP; through the proxy of `tokentide up`, and through one that logs all it can.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from e2e.test_canaries import CONTENT, TESTS, found, in_files, on_topics
from e2e.test_proxy_sdks import PREFIXES, PROVIDERS_KEY, listed, provider_key
from infra.embedded import Embedded, environment
from infra.fake_answers import TOOL_INPUT
from infra.fake_provider import FakeProvider
from infra.process import Process, free_port, listens
from infra.sdk_programs import PROGRAMS, Target
from infra.waiting import until

CLIENTS_KEY = "sk-ant-CANARY-of-the-client"
SYSTEM = [{"type": "text", "text": "CANARY-of-the-system"}]


def asked(text: str, **other: Any) -> dict[str, Any]:
    """A request to Anthropic with a canary in every place that has room for a text."""
    said = [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": TOOL_INPUT}]
    result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "CANARY-of-the-tool"}]
    return {
        "model": "claude-sonnet-5-5",
        "max_tokens": 9,
        "system": SYSTEM,
        "metadata": {"user_id": "CANARY-of-the-metadata"},
        "tools": [{"name": "Bash", "description": "CANARY-of-the-tools", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": f"CANARY-of-the-prompt {text}"},
            {"role": "assistant", "content": said},
            {"role": "user", "content": result},
        ],
        **other,
    }


def post(base: str, key: str, path: str, body: Any, **headers: str) -> int:
    named = {"x-api-key": CLIENTS_KEY, "x-tokentide-key": key, "x-own": "CANARY-of-a-header", **headers}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = httpx.post(f"{base}{path}", content=raw, headers=named, timeout=30, verify=False)
    return answer.status_code


def misuse(base: str, key: str) -> None:
    """Ask for what is refused, by us or by the provider, and for what breaks."""
    messages = "/v1/messages?beta=CANARY-of-the-query"
    assert post(base, key, messages, asked("plain")) == 200
    assert post(base, key, messages, asked("streamed", stream=True)) == 200
    assert post(base, key, messages, asked("[[bad]]")) == 400
    assert post(base, key, messages, asked("[[garbage]]")) == 502
    assert post(base, key, messages, b'{"model": "CANARY-of-a-broken-body') == 400
    assert post(base, "tt_p_CANARY", messages, asked("wrong key")) == 401
    assert post(base, key, "/nowhere?q=CANARY-of-the-query", asked("nowhere")) == 404
    assert post(base, key, f"/gemini/v1beta/models/m:generateContent?key={CLIENTS_KEY}", {}) == 200
    assert post(base, key, messages, asked("no HTTP"), connection="upgrade", upgrade="CANARY") == 400


class LoudProxy(Process):
    """The proxy as a service of its own beside a system, logging all that it can."""

    def __init__(self, folder: Path, system: Embedded, provider: FakeProvider) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "proxy.log"
        self.spool = folder / "spool"
        settings = {
            "TOKENTIDE_PROXY_PORT": str(port),
            "TOKENTIDE_BROKER_URL": system.ready["broker"],
            "TOKENTIDE_DATABASE_URL": f"sqlite:///{system.data_dir / 'accounts.db'}",
            "TOKENTIDE_SECRET_KEY": (system.data_dir / "secret.key").read_text().strip(),
            "TOKENTIDE_PROXY_UPSTREAMS": provider.upstreams,
            "TOKENTIDE_PROXY_SPOOL_DIR": str(self.spool),
            "TOKENTIDE_LOG_LEVEL": "debug",
            "PYTHONASYNCIODEBUG": "1",
        }
        super().__init__(
            [sys.executable, "-m", "tokentide_proxy"],
            log=self.log,
            ready=lambda: listens(port),
            environment=environment(folder, **settings),
        )


async def test_nothing_of_a_conversation_and_no_key_is_kept_logged_or_put_on_a_topic(
    own_system: Embedded, tmp_path: Path
) -> None:
    with FakeProvider() as provider:
        own_system.start(TOKENTIDE_PROXY_UPSTREAMS=provider.upstreams)
        ours = own_system.credentials["proxy_key"]
        loud = LoudProxy(tmp_path, own_system, provider)
        for sdk in PREFIXES:
            provider_key(own_system, "set", sdk, said=PROVIDERS_KEY)
        loud.start()
        try:
            for base in (own_system.ready["proxy"], loud.url):
                misuse(base, ours)
            for sdk, prefix in PREFIXES.items():
                managed = Target(loud.url + prefix, ours)
                await until(lambda managed=managed, sdk=sdk: ran(sdk, managed))
        finally:
            loud.stop()
    caller = own_system.caller()
    expected = {answer.message_id for answer in provider.account}
    await until(lambda: listed(caller).keys() >= expected)
    assert {key.split()[-1] for key in credentials_seen(provider)} == {CLIENTS_KEY, PROVIDERS_KEY}
    topics = list(await on_topics(own_system.ready["broker"]))
    assert own_system.end() == 0
    stored = subprocess.run(
        [sys.executable, "-m", "infra.stored_rows", str(own_system.data_dir / "clickhouse")],
        cwd=TESTS,
        capture_output=True,
        check=True,
    ).stdout
    assert provider.account[0].call_id.encode() in stored
    said = loud.log.read_bytes()
    assert b"upstream_broken" in said
    assert b"v1beta/models" in said, "it is as loud as it can be"
    everywhere = [
        *topics,
        ("tables", stored),
        ("log", said),
        ("stdout", own_system.out.encode()),
        ("stderr", own_system.err.encode()),
        *in_files(own_system.data_dir),
        *in_files(loud.spool),
    ]
    assert found((CONTENT,), everywhere) == set()
    credentials = str(own_system.data_dir / "credentials.json")
    assert found((ours.encode(),), everywhere) == {(credentials, ours.encode())}
    secret = (own_system.data_dir / "secret.key").read_bytes().strip()
    assert found((secret,), everywhere) == {(str(own_system.data_dir / "secret.key"), secret)}


async def ran(sdk: str, to: Target) -> bool:
    """Run the program of an SDK; a key that was kept a moment ago may not be known yet."""
    try:
        await PROGRAMS[sdk](to)
    except Exception as refused:
        if "no key for" not in str(refused):
            raise
        return False
    return True


def credentials_seen(provider: FakeProvider) -> set[str]:
    names = ("x-api-key", "authorization", "x-goog-api-key")
    return {one.headers[name] for one in provider.asked for name in names if name in one.headers}
