"""Logs: one JSON object a line, nothing confidential in it, libraries included, traces without locals."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tokentide_common.keys import mint_key
from tokentide_common.logging import configure, redact

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    before = root.level
    stream = io.StringIO()
    configure("json", stream=stream)
    # Not splitlines(): that breaks at U+0085 and U+2028 too, which JSON leaves as they are.
    yield lambda: [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]
    for handler in [h for h in root.handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]:
        root.removeHandler(handler)
    root.setLevel(before)
    structlog.reset_defaults()


def test_a_line_has_its_event_fields_level_logger_and_utc_time(lines):
    structlog.get_logger("tokentide_ingest.batch").info("batch_accepted", events=3, org_id="o")
    (line,) = lines()
    assert (line["event"], line["events"], line["level"]) == ("batch_accepted", 3, "info")
    assert line["logger"] == "tokentide_ingest.batch"
    assert datetime.fromisoformat(line["timestamp"]).utcoffset().total_seconds() == 0


def test_fields_bound_to_the_context_are_on_every_line(lines):
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("one")
    structlog.get_logger().info("two")
    first, second = lines()
    assert first["request_id"] == "r1"
    assert "request_id" not in second


def test_configuring_again_does_not_double_the_lines(lines):
    stream = io.StringIO()
    configure("json", stream=stream)
    configure("json", stream=stream)
    structlog.get_logger().info("once")
    logging.getLogger("aiokafka").warning("once")
    assert len(stream.getvalue().splitlines()) == 2
    assert lines() == []


@pytest.mark.parametrize("library", ["uvicorn.error", "aiokafka.consumer", "sqlalchemy.engine", "anything"])
def test_lines_of_libraries_take_the_same_way_and_keep_their_event_constant(lines, library):
    logging.getLogger(library).warning("lost %s with Bearer abc.def", "it")
    (line,) = lines()
    assert line["event"] == "library_log"
    assert line["message"] == "lost it with [redacted]"
    assert line["logger"] == library


def test_news_of_talkative_libraries_and_requests_are_left_out(lines):
    logging.getLogger("uvicorn.access").info("GET /api/v1/usage?user=ann")
    logging.getLogger("aiokafka").info("joined")
    structlog.get_logger().debug("detail")
    assert lines() == []


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "x-api-key",
        "x-tokentide-key",
        "api_key",
        "password",
        "db_password",
        "secret_key",
        "cookie",
        "access_token",
        "token",
        "prompt",
        "body",
        "content",
        "tool_input",
        "credentials",
    ],
)
def test_a_value_under_a_confidential_name_is_hidden_at_any_depth(name):
    event = redact(None, "", {"event": "e", name: "value", "deep": [{"er": {name: "value"}}]})
    assert event[name] == "[redacted]"
    assert event["deep"][0]["er"][name] == "[redacted]"


def test_counts_and_ids_whose_names_resemble_secrets_stay_readable():
    event = {
        "event": "e",
        "input_tokens": 5,
        "key_id": "key_1",
        "prompt_id": "p",
        "token_count": 1,
        "tokens": 2,
    }
    assert redact(None, "", dict(event)) == event


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(mint_key("m")[0], id="our own"),
        "sk-ant-api03-abcdefgh",
        "Bearer eyJhbGciOi.x.y",
        "AIzaSyA1234567890abcdefghijk",
        "u:pw@x",
        "u:p@ss@x",
        "ttr_1-abcDEF_ghi",
        "xai-1234567890abcdef",
        "gsk_1234567890abcdef",
        "AQ.Ab8RN6JkZ1234567890abcdef",
        "sk_live_1234567890abcdef",
        "x-api-key: 0123456789abcdef",
        "Authorization: Bearer no-known-form",
        "'api_key'='0123456789abcdef",
    ],
)
def test_a_secret_inside_any_text_is_hidden(secret):
    text = f"kafka://{secret}/" if "@" in secret else f"request with {secret} failed"
    event = redact(None, "", {"event": "e", "detail": text, "many": (text,), "error": ValueError(text)})
    hidden = re.split(r"[\s=':@]+", secret.removesuffix("@x"))[-1]
    assert hidden not in repr(event)
    assert "[redacted]" in event["detail"]


@given(st.recursive(st.text() | st.integers() | st.binary() | st.none(), st.lists, max_leaves=8))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_whatever_is_logged_becomes_one_line_of_json_and_no_key_gets_through(lines, value):
    secret, _ = mint_key("p")
    before = len(lines())
    structlog.get_logger().info("anything", value=value, also={"nested": f"x{secret}"})
    new = lines()[before:]
    assert len(new) == 1
    assert secret not in json.dumps(new)


def test_a_trace_shows_frames_but_no_local_values(lines):
    def fail(confidential: str) -> None:
        raise ValueError("broken with Bearer abcdef")

    try:
        fail("a prompt that nobody may read")
    except ValueError:
        structlog.get_logger().exception("it_failed")
    (line,) = lines()
    (trace,) = line["exception"]
    assert trace["exc_type"] == "ValueError"
    assert trace["exc_value"] == "broken with [redacted]"
    assert trace["frames"]
    assert "nobody may read" not in json.dumps(line)


def test_the_console_format_is_for_people_and_redacts_too(lines):
    stream = io.StringIO()
    configure("console", stream=stream)
    structlog.get_logger().warning("look_here", password="hunter2", n=1)
    assert "look_here" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert not stream.getvalue().startswith("{")
