"""`tokentide keys`: list, create and revoke keys on the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tokentide.account_requests import AccountRequests, segment
from tokentide.account_tables import KINDS, keys_table
from tokentide.connection import find_connection
from tokentide.failures import Exit
from tokentide.options import DataDir, Json, Key, QueryUrl
from tokentide.terminal import notes, results, write_json

Kind = Literal["machine", "proxy", "api"]
_KeyId = Annotated[str, Parameter(help="The key's id, as `tokentide keys list` shows it.")]
_Days = Annotated[
    int | None, Parameter(help="Days until the key ends; without it, it does not.", validator=Number(gte=1))
]


def list_keys(
    *,
    revoked: Annotated[bool, Parameter(name="--all", negative="", help="Revoked keys too.")] = False,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Show your keys, or all of the organisation if you administer it; never the keys themselves."""
    requests = AccountRequests(find_connection("query", url, key, data_dir))
    items = list(requests.every("keys", **({"include_revoked": "true"} if revoked else {})))
    if as_json:
        write_json(items)
    else:
        results().print(keys_table(items))
    return Exit.OK


def create_key(
    *,
    kind: Annotated[Kind, Parameter(help="What it is for: pushing, calling through the proxy, or asking.")],
    name: Annotated[str, Parameter(help="What it is called in lists.")],
    project: Annotated[str, Parameter(help="Project of calls that name none.")] = "",
    team: Annotated[str, Parameter(help="Team of calls that name none.")] = "",
    expires_in_days: _Days = None,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Make a key and show it, this once: it is kept nowhere."""
    requests = AccountRequests(find_connection("query", url, key, data_dir))
    wanted: dict[str, Any] = {"kind": KINDS[kind], "name": name, "project": project, "team": team}
    if expires_in_days is not None:
        wanted["expires_at"] = (datetime.now(UTC) + timedelta(days=expires_in_days)).isoformat()
    made = requests.post("keys", wanted)
    if as_json:
        write_json(made)
        return Exit.OK
    results().print(made["key"], markup=False, highlight=False)
    notes().print(f"{made['key_id']}: keep it now, it is not shown again", markup=False)
    return Exit.OK


def revoke_key(
    key_id: _KeyId,
    /,
    *,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Revoke a key for good; no service takes it after five seconds."""
    AccountRequests(find_connection("query", url, key, data_dir)).delete(f"keys/{segment(key_id)}")
    if as_json:
        write_json({"revoked": key_id})
    else:
        results().print(f"revoked {key_id}", markup=False, highlight=False)
    return Exit.OK
