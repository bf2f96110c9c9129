"""Errors as answers: RFC 9457 for all of them, stable codes, and nothing internal in any."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from structlog.testing import capture_logs

from tokentide_common.errors import (
    InvalidEvent,
    InvalidRequest,
    NotFound,
    RateLimited,
    TokentideError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedEncoding,
)
from tokentide_common.problem import MEDIA_TYPE, Problem
from tokentide_common.problem_answers import exception_handlers

ERRORS = [
    (InvalidRequest("d"), 400, "invalid_request"),
    (TooLarge("d"), 413, "too_large"),
    (UnsupportedEncoding("d"), 415, "unsupported_encoding"),
    (InvalidEvent("d"), 422, "invalid_event"),
    (Unauthorized("d"), 401, "unauthorized"),
    (NotFound("d"), 404, "not_found"),
    (RateLimited("d", retry_after_s=7), 429, "rate_limited"),
    (Unavailable("d", retry_after_s=2), 503, "unavailable"),
]


@get("/raise/{number:int}", sync_to_thread=False)
def raise_listed(number: FromPath[int]) -> None:
    raise ERRORS[number][0]


@get("/fields", sync_to_thread=False)
def raise_with_fields() -> None:
    raise InvalidRequest("two are wrong", code="invalid_period", fields={"from": "no time", "to": "no time"})


@get("/unforeseen", sync_to_thread=False)
def fail_unforeseen() -> None:
    raise RuntimeError("connection string kafka://me:hunter2@host")


@get("/typed", sync_to_thread=False)
def typed(limit: FromQuery[int]) -> int:
    return limit


@post("/only-post", sync_to_thread=False)
def only_post() -> None: ...


@post("/body", sync_to_thread=False)
def takes_body(data: JSONBody[dict[str, object]]) -> int:
    return len(data)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        [raise_listed, raise_with_fields, fail_unforeseen, typed, only_post, takes_body],
        exception_handlers=exception_handlers(),
        logging_config=None,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def problem(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == MEDIA_TYPE
    body = msgspec.json.decode(answer.content, type=Problem)
    assert body.status == answer.status_code
    assert body.instance == answer.headers["x-request-id"]
    assert body.type == f"urn:tokentide:error:{body.code}"
    return body


@pytest.mark.parametrize("number", range(len(ERRORS)), ids=[code for _, _, code in ERRORS])
async def test_each_of_our_errors_is_a_problem_with_its_own_status_code_and_title(client, number):
    error, status, code = ERRORS[number]
    answer = await client.get(f"/raise/{number}")
    body = problem(answer)
    assert (body.status, body.code, body.title, body.detail) == (status, code, error.title, "d")
    assert answer.headers.get("retry-after") == {429: "7", 503: "2"}.get(status)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


async def test_field_messages_and_a_finer_code_reach_the_caller(client):
    body = problem(await client.get("/fields"))
    assert body.code == "invalid_period"
    assert [(e.field, e.detail) for e in body.errors] == [("from", "no time"), ("to", "no time")]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/only-post", 405, "method_not_allowed"),
        ("GET", "/typed?limit=abc", 400, "invalid_request"),
    ],
)
async def test_what_the_framework_refuses_looks_like_our_own_errors(client, method, path, status, code):
    body = problem(await client.request(method, path))
    assert (body.status, body.code) == (status, code)


async def test_a_wrong_method_is_told_the_right_ones(client):
    assert "POST" in (await client.get("/only-post")).headers["allow"]


async def test_a_parameter_of_the_wrong_type_is_named_but_its_value_is_not_quoted(client):
    answer = await client.get("/typed?limit=hunter2")
    assert [error.field for error in problem(answer).errors] == ["limit"]
    assert "hunter2" not in answer.text


async def test_an_unforeseen_error_shows_only_its_request_id_and_is_logged_under_it(client):
    with capture_logs() as logged:
        answer = await client.get("/unforeseen")
    body = problem(answer)
    assert (body.status, body.code) == (500, TokentideError.code)
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    (line,) = logged
    assert (line["event"], line["request_id"], line["route"]) == (
        "request_failed",
        body.instance,
        "/unforeseen",
    )
    assert isinstance(line["exc_info"], RuntimeError)


async def test_a_body_that_is_nested_too_deeply_is_the_callers_mistake_and_no_traceback(client):
    with capture_logs() as logged:
        answer = await client.post(
            "/body", content=b"[" * 5_000, headers={"content-type": "application/json"}
        )
    assert (answer.status_code, problem(answer).code) == (400, "invalid_request")
    (line,) = logged
    assert line["event"] == "nested_too_deeply"
    assert "exc_info" not in line


async def test_an_error_that_was_foreseen_is_not_logged_as_a_failure(client):
    with capture_logs() as logged:
        await client.get("/raise/0")
    assert logged == []


async def test_the_callers_request_id_is_kept_when_it_is_one(client):
    answer = await client.get("/nowhere", headers={"x-request-id": "caller-id.00001"})
    assert problem(answer).instance == "caller-id.00001"


@pytest.mark.parametrize("sent", ["short", "x" * 65, "<script>alert(1)</script>", "with spaces here"])
async def test_a_request_id_that_could_do_harm_is_replaced(client, sent):
    answer = await client.get("/nowhere", headers={"x-request-id": sent})
    assert problem(answer).instance != sent
