"""Which keys may write usage, and what the others are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.rpc import code_pb2

from infra.sqlite import migrated_sqlite
from tokentide_common.accounts import KeyDirectory, create_organization, issue_key
from tokentide_common.database import open_database
from tokentide_common.errors import Forbidden
from tokentide_common.keys import KeyKind
from tokentide_common.token_bucket import TokenBuckets
from tokentide_ingest.otlp.answers import refusal
from tokentide_ingest.otlp.identity_of_sender import Senders
from tokentide_ingest.who_sends import admit_sender


@pytest.mark.parametrize(
    ("kind", "scopes", "may_send"),
    [
        ("m", "", True),
        ("a", "", True),
        ("a", "manage read", True),
        ("a", "manage", True),
        ("a", "read", False),
    ],
)
async def test_a_key_that_was_made_to_read_writes_nothing(
    tmp_path: Path, kind: KeyKind, scopes: str, may_send: bool
) -> None:
    engine = open_database(migrated_sqlite(tmp_path / "a.db"))
    secret, issued = issue_key(engine, create_organization(engine, "A"), kind, scopes=scopes)
    keys = KeyDirectory(engine)
    await keys.refresh()
    doors = (
        lambda: admit_sender(keys, secret),
        lambda: Senders(lambda: keys, TokenBuckets(9, 9), loopback_key="").admit(
            {"x-tokentide-key": secret}, "192.0.2.1"
        ),
    )
    for door in doors:
        if may_send:
            assert (await door()).key_id == issued.key_id
        else:
            with pytest.raises(Forbidden) as caught:
                await door()
            refused = refusal(caught.value)
            assert (refused.http_status, refused.grpc_code) == (403, code_pb2.PERMISSION_DENIED)
    engine.dispose()
