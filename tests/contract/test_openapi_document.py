"""Every answer is one that the OpenAPI document says, whatever is asked, and none is our own fault."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from litestar.testing import TestClient
from schemathesis import checks

from infra.accounts_people import SECRET, People
from infra.ledger_rows import call, insert_calls
from infra.query_client import NOW
from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import create_organization
from tokentide_common.database import open_database
from tokentide_common.last_seen import LastSeen, SeenMachine
from tokentide_common.migrate import migrate
from tokentide_common.store import Store
from tokentide_query_api.app import create_app
from tokentide_query_api.rate_limits import KINDS
from tokentide_query_api.settings import QuerySettings

HOLDS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# Each route is asked so often by somebody who may do everything, and once by nobody.
EXAMPLES = 6


class Served:
    """The query API, and whoever asks it."""

    def __init__(self, client: TestClient[Any], people: People) -> None:
        self.client = client
        self.people = people
        self.owner = people.join("org_a", "owner")
        self._numbers = count()

    def send(self, case: Any, *, logged_in: bool, if_match: str = "") -> Any:
        """Return the answer to a case; a session is used once, since some routes end it."""
        asked = case.as_transport_kwargs(base_url="http://testserver.local")
        headers = dict(asked.get("headers") or {})
        headers.pop("Authorization", None)
        if if_match:
            headers["if-match"] = if_match
        if logged_in:
            headers["authorization"] = f"Bearer {self.people.session(self.owner).token}"
        sent = {name: asked[name] for name in ("params", "json", "data") if name in asked}
        if isinstance(sent.get("data"), bytes | str):
            sent["content"] = sent.pop("data")
        return self.client.request(
            asked["method"], asked["url"], headers=headers, follow_redirects=False, **sent
        )

    def ids(self) -> dict[str, str]:
        """Return the ids of new things of the organisation, and of what it has anyway."""
        number = next(self._numbers)
        made: dict[str, str] = {}
        for path, name, body in (
            ("teams", "team_id", {"name": f"Team {number}"}),
            ("invitations", "invitation_id", {"email": f"new{number}@a.example"}),
            ("keys", "key_id", {"kind": "m", "name": "Key", "machine_id": f"machine-{number}"}),
        ):
            headers = {"authorization": f"Bearer {self.people.session(self.owner).token}"}
            answer = self.client.post(f"/api/v1/{path}", json=body, headers=headers)
            assert answer.status_code == 201, answer.text
            made[name] = answer.json()[name]
        seen = LastSeen(self.people.engine, dict)
        seen.machine(SeenMachine("org_a", f"machine-{number}"))
        asyncio.run(seen.write())
        colleague = self.people.join("org_a", "member")
        return {
            **made, "machine_id": f"machine-{number}", "user_id": colleague.user_id, "org_id": "org_a",
            "call_id": "req_1", "name": "anthropic",
        }  # fmt: skip


@pytest.fixture(scope="module")
def served(chdb_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = Store(f"chdb://{chdb_directory}?database=openapi_document")
    asyncio.run(_filled(store))
    engine = open_database(migrated_sqlite(tmp_path_factory.mktemp("openapi") / "accounts.db"))
    create_organization(engine, "A", org_id="org_a")
    people = People(engine, now=NOW)
    made = Served(None, people)  # type: ignore[arg-type] -- the people come before the service
    unhurried = {f"rate_{kind}_per_minute": 1_000_000 for kind in KINDS}
    app = create_app(
        QuerySettings(secret_key=SECRET, **unhurried), store=store, engine=engine, clock=lambda: NOW
    )
    with TestClient(app) as made.client:
        yield made
    engine.dispose()
    asyncio.run(store.close())


async def _filled(store: Store) -> None:
    await migrate(store)
    await insert_calls(store, [call(call_id=f"req_{n}", model="m", session_id="s") for n in range(3)])


def test_every_answer_is_as_the_document_says(served: Served) -> None:
    schema = schemathesis.openapi.from_dict(served.client.get("/schema").json())
    failed: dict[str, str] = {}
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == "/api/v1/live":
            continue  # a stream of events has no end to be held against the document
        asked += 1
        try:
            _hold(served, operation)
        except Exception as error:  # every route is told, not only the first
            failed[operation.label] = _told(error)
    assert asked > 60
    assert not failed, "\n\n".join(f"{label}\n{text}" for label, text in failed.items())


def _told(error: BaseException) -> str:
    """Return what is wrong, of each of several things."""
    inner = getattr(error, "exceptions", ())
    return "\n".join(_told(each) for each in inner) or f"{type(error).__name__}: {error}"[:1500]


def _hold(served: Served, operation: Any) -> None:
    @seed(20261122)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def hold(case: Any) -> None:
        known = len(asked) % 2 == 1  # else such ids as nobody has
        if known:
            case.path_parameters = {n: ids.get(n, v) for n, v in (case.path_parameters or {}).items()}
        answer = served.send(case, logged_in=True, if_match="*" if known else "")
        case.validate_response(answer, checks=HOLDS)
        asked.append(case)

    asked: list[Any] = []
    ids = served.ids() if "{" in operation.path else {}
    if operation.method == "delete":
        ids.pop("org_id", None)  # everything else would be gone with it
    hold()
    answer = served.send(asked[0], logged_in=False)
    asked[0].validate_response(answer, checks=HOLDS)
