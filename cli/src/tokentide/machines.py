"""`tokentide machines`: list, approve, rename and remove machines on the server."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tokentide.account_requests import AccountRequests, segment
from tokentide.account_tables import machines_table
from tokentide.connection import find_connection
from tokentide.failures import Exit
from tokentide.options import DataDir, Json, Key, QueryUrl
from tokentide.terminal import results, write_json

_Id = Annotated[
    str, Parameter(name="machine", help="The machine's id, as `tokentide machines list` shows it.")
]


def list_machines(
    *, as_json: Json = False, url: QueryUrl = None, key: Key = None, data_dir: DataDir = None
) -> int:
    """Show your machines, or all of the organisation if you administer it."""
    items = list(AccountRequests(find_connection("query", url, key, data_dir)).every("machines"))
    if as_json:
        write_json(items)
    else:
        results().print(machines_table(items))
    return Exit.OK


def approve_machine(
    code: Annotated[str, Parameter(help="The code that `tokentide login` shows there.")],
    /,
    *,
    deny: Annotated[bool, Parameter(negative="", help="Refuse the machine instead.")] = False,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Let in a machine that shows a code, from one that is logged in: it gets keys that act in your name.

    Approve only a code that you see on a machine of your own.
    """
    requests = AccountRequests(find_connection("query", url, key, data_dir))
    decided = requests.post("auth/device/decision", {"user_code": code, "approve": not deny})
    if as_json:
        write_json(decided)
    else:
        done = "denied" if deny else "approved"
        name = decided["machine_name"] or decided["machine_id"]
        results().print(
            f"{done} {name}, which asked from {decided['address']}", markup=False, highlight=False
        )
    return Exit.OK


def rename_machine(
    machine_id: _Id,
    name: Annotated[str, Parameter(help="What it is to be called.")],
    /,
    *,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Give a machine another name."""
    requests = AccountRequests(find_connection("query", url, key, data_dir))
    changed = requests.patch(f"machines/{segment(machine_id)}", {"name": name})
    if as_json:
        write_json(changed)
    else:
        results().print(f"{machine_id} is called {changed['name']}", markup=False, highlight=False)
    return Exit.OK


def remove_machine(
    machine_id: _Id,
    /,
    *,
    as_json: Json = False,
    url: QueryUrl = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> int:
    """Forget a machine and revoke the keys it pushes and asks with; what it has pushed stays counted."""
    AccountRequests(find_connection("query", url, key, data_dir)).delete(f"machines/{segment(machine_id)}")
    if as_json:
        write_json({"removed": machine_id})
    else:
        results().print(f"removed {machine_id}", markup=False, highlight=False)
    return Exit.OK
