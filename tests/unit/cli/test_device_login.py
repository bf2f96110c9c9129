"""How a machine asks whether it was approved: as often as it may, for as long as it can, and no longer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tokentide.account_requests import AccountRequests
from tokentide.connection import Connection
from tokentide.device_login import Codes, DeviceLogin
from tokentide.failures import Failure
from tokentide.machine import Machine

GRANTED = {
    "machine_key": "tt_m_1",
    "machine_key_id": "key_m",
    "api_key": "tt_a_1",
    "api_key_id": "key_a",
    "organisation": {"id": "org_a", "name": "A"},
    "user": {"id": "usr_1", "email": "ada@example.com", "display_name": "Ada"},
}
CODES = Codes("device", "BCDF-GHJK", "https://tide.example/device", 600, 5)
Answers = list[tuple[int, dict[str, Any], dict[str, str]]]


def problem(code: str, status: int = 400, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    return status, {"code": code, "detail": f"because of {code}", "status": status}, headers


class Scripted:
    """Answers each question with the next of its answers, the last one again and again."""

    def __init__(self) -> None:
        self.answers: Answers = []
        self.asked: list[dict[str, Any]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                scripted.asked.append(json.loads(body))
                answers = scripted.answers
                status, said, headers = answers.pop(0) if len(answers) > 1 else answers[0]
                content = json.dumps(said).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    stub = Scripted()
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    thread.join()


class Waiting:
    """A clock that stands still but for the waits that a login asks for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def login_at(url: str) -> tuple[DeviceLogin, Waiting]:
    time = Waiting()
    requests = AccountRequests(Connection(url, ""), timeout_s=5)
    return DeviceLogin(requests, sleep=time.sleep, clock=lambda: time.now), time


def test_it_asks_at_the_interval_until_it_is_approved(scripted: Scripted) -> None:
    pending = problem("authorization_pending")
    scripted.answers = [pending, pending, (200, GRANTED, {})]
    login, time = login_at(scripted.url)
    granted = login.wait(CODES)
    assert (granted.machine_key, granted.api_key, granted.user.email) == (
        "tt_m_1",
        "tt_a_1",
        "ada@example.com",
    )
    assert granted.key_ids == ["key_m", "key_a"]
    assert time.waits == [5, 5, 5]
    assert scripted.asked == [{"device_code": "device"}] * 3


def test_asked_to_slow_down_it_stays_slower(scripted: Scripted) -> None:
    slow, pending = problem("slow_down"), problem("authorization_pending")
    scripted.answers = [slow, pending, slow, (200, GRANTED, {})]
    login, time = login_at(scripted.url)
    login.wait(CODES)
    assert time.waits == [5, 10, 10, 15]


def test_a_server_that_is_busy_is_asked_again_when_it_says(scripted: Scripted) -> None:
    busy = problem("rate_limited", 429, retry_after="42")
    scripted.answers = [busy, problem("unavailable", 503, retry_after="1"), (200, GRANTED, {})]
    login, time = login_at(scripted.url)
    login.wait(CODES)
    assert time.waits == [5, 42, 5]


def test_a_server_that_is_away_is_asked_until_the_code_expires() -> None:
    login, time = login_at("http://127.0.0.1:9")
    with pytest.raises(Failure, match="expired"):
        login.wait(CODES)
    assert sum(time.waits) < CODES.expires_in


def test_nobody_is_asked_after_the_code_has_expired(scripted: Scripted) -> None:
    scripted.answers = [problem("authorization_pending")]
    login, time = login_at(scripted.url)
    with pytest.raises(Failure, match="expired"):
        login.wait(Codes("device", "X", "https://tide.example", 21, 5))
    assert time.waits == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (problem("access_denied"), "denied"),
        (problem("expired_device_code"), "expired"),
        (problem("invalid_request"), "because of invalid_request"),
        (problem("not_found", 404), "404"),
        ((200, {"machine_key": "only"}, {}), "not answer as a Tokentide server"),
    ],
    ids=str,
)
def test_what_cannot_become_better_ends_it_at_once(scripted: Scripted, answer: Any, said: str) -> None:
    scripted.answers = [answer]
    login, time = login_at(scripted.url)
    with pytest.raises(Failure, match=said):
        login.wait(CODES)
    assert len(time.waits) == 1


def test_it_begins_with_the_machines_id_and_name(scripted: Scripted) -> None:
    told = {"device_code": "d", "user_code": "u", "verification_uri": "v", "expires_in": 600, "interval": 5}
    scripted.answers = [(200, told, {})]
    login, _ = login_at(scripted.url)
    assert login.begin(Machine("m" * 256, "host")).user_code == "u"
    assert scripted.asked == [{"machine_id": "m" * 200, "machine_name": "host"}]
