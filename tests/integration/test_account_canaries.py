"""No password, key or token that goes through the account routes is found in database, logs or errors."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from infra.accounts_people import SECRET
from infra.query_client import Caller, query_api
from tokentide_common.accounts_schema import outbox
from tokentide_common.database import reading
from tokentide_common.logging import configure
from tokentide_query_api.accounts.safe import Safe

PASSWORDS = ("canary-password-of-one", "canary-password-of-two", "canary-password-wrong")
PROVIDER_KEY = "sk-ant-canary-of-a-provider"


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path, signup="open") as caller:
        yield caller


async def said(api: Caller, method: str, path: str, who: Any = None, **options: Any) -> Any:
    answer = await api.ask(method, path, who, **options)
    assert answer.status_code < 300, (path, answer.text)
    return answer.json() if answer.content else {}


async def use_everything(api: Caller) -> list[str]:
    """Go through every door that takes or gives a secret; return all secrets."""
    email = "canary@org_c.example"
    first = await said(api, "POST", "/auth/signup", body={"email": email, "password": PASSWORDS[0]})
    again = await said(api, "POST", "/auth/login", body={"email": email, "password": PASSWORDS[0]})
    refreshed = await said(api, "POST", "/auth/refresh", body={"refresh_token": again["refresh_token"]})
    await said(api, "POST", "/auth/password/forgot", body={"email": email})
    token = refreshed["access_token"]
    change = {"password": {"old": PASSWORDS[0], "new": PASSWORDS[1]}}
    await said(api, "PATCH", "/auth/me", token, body=change, headers={"if-match": "*"})
    keys = [
        (await said(api, "POST", "/keys", token, body={"kind": kind, "name": "canary"}))["key"]
        for kind in "mpa"
    ]
    await said(api, "PUT", "/providers/anthropic", token, body={"secret": PROVIDER_KEY})
    await said(api, "POST", "/invitations", token, body={"email": "new@org_c.example"})
    device = await said(api, "POST", "/auth/device", body={"machine_id": "m1", "machine_name": "laptop"})
    await said(
        api, "POST", "/auth/device/decision", token, body={"user_code": device["user_code"], "approve": True}
    )
    minted = await said(api, "POST", "/auth/device/token", body={"device_code": device["device_code"]})
    tokens = [t[name] for t in (first, again, refreshed) for name in ("access_token", "refresh_token")]
    devices = [device["device_code"], device["user_code"], minted["machine_key"], minted["api_key"]]
    return [*PASSWORDS[:2], *tokens, *keys, PROVIDER_KEY, *devices, *letters(api), SECRET]


def letters(api: Caller) -> list[str]:
    """Return the secrets that letters carry."""
    safe, found = Safe(SECRET), []
    with reading(api.people.engine) as connection:
        for message_id, sealed in connection.execute(sa.select(outbox.c.message_id, outbox.c.sealed)):
            text = safe.open("letters", message_id, sealed)
            assert text is not None
            found += re.findall(r"#token=(\S+)", text)
    assert len(found) >= 3
    return found


async def misuse(api: Caller, secrets: list[str]) -> list[str]:
    """Send every secret where it does not belong; return the answers."""
    answers = []
    for secret in secrets:
        for method, path, body in [
            ("GET", f"/keys/{secret}", None),
            ("GET", f"/audit?cursor={secret}", None),
            ("POST", "/keys", {"kind": "m", "name": "x", "secret": secret}),
            ("POST", "/auth/login", {"email": "nobody@x.example", "password": secret, "more": secret}),
            ("POST", "/auth/refresh", {"refresh_token": f"x{secret}"}),
            ("PUT", "/providers/openai", {"secret": f"{secret} {secret}"}),
        ]:
            answers.append((await api.ask(method, path, "owner", body=body)).text)
        answers.append((await api.ask("GET", "/keys", f"{secret}x")).text)
    wrong = {"email": "canary@org_c.example", "password": PASSWORDS[2]}
    answers.append((await api.ask("POST", "/auth/login", body=wrong)).text)
    return answers


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that a service logs when it is told to log as much as it can."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.level
    configure("json", level="debug", stream=stream)
    yield stream
    for handler in [h for h in root.handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]:
        root.removeHandler(handler)
    root.setLevel(before)
    structlog.reset_defaults()


async def test_secrets_are_in_no_table_log_or_error(api, tmp_path: Path, logged):
    secrets = await use_everything(api)
    answers = await misuse(api, secrets)
    structlog.get_logger("tokentide_query_api").debug("the_end")
    # Everything that is on disk, the write-ahead log too.
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("accounts.db*"))
    assert b"canary@org_c.example" in stored
    assert "the_end" in logged.getvalue()
    places = {
        "database": stored.decode("latin-1"),
        "logs": logged.getvalue(),
        "errors": "\n".join(answers),
    }
    found = [
        (where, secret[:12])
        for where, text in places.items()
        for secret in [*secrets, PASSWORDS[2]]
        if secret in text
    ]
    assert found == []
