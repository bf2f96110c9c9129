"""The account routes as callers see them: statuses, headers, ETags, secrets shown once, walls."""

from __future__ import annotations

from typing import Any

import pytest

from infra.query_client import query_api


@pytest.fixture
async def api(store, tmp_path):
    async with query_api(store, tmp_path) as caller:
        yield caller


async def made(api: Any, path: str, who: Any, body: Any) -> Any:
    answer = await api.ask("POST", path, who, body=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_key_is_shown_once_and_changed_by_whoever_has_seen_its_version(api):
    answer = await api.ask("POST", "/keys", "member", body={"kind": "m", "name": "laptop"})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"v1"')
    assert answer.headers["cache-control"] == "private, no-store"
    issued = answer.json()
    assert issued.pop("key").startswith("tt_m_")
    path = f"/keys/{issued['key_id']}"
    seen = await api.ask("GET", path, "member")
    assert (seen.json(), seen.headers["etag"]) == (issued, '"v1"')
    assert (await api.ask("GET", "/keys", "member")).json() == {"items": [issued], "next_cursor": None}
    for etag, status in ((None, 428), ('"v2"', 412), ("nonsense", 412), ('"v1"', 200), ('"v1"', 412)):
        headers = {"if-match": etag} if etag else {}
        changed = await api.ask("PATCH", path, "member", body={"name": "desk"}, headers=headers)
        assert changed.status_code == status, changed.text
    for _ in range(2):
        assert (await api.ask("DELETE", path, "member")).status_code == 204
    assert (await api.ask("GET", path, "member")).json()["revoked_at"] == "2026-11-22T10:30:00Z"
