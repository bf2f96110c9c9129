"""`tokentide logout`: revoke this machine's keys, and forget them."""

from __future__ import annotations

import httpx

from tokentide.account_requests import AccountRequests, segment
from tokentide.connection import Connection
from tokentide.failures import Exit, Failure
from tokentide.http import refusal
from tokentide.options import Json
from tokentide.stored_login import StoredLogin, forget_login, keys_of, read_login
from tokentide.terminal import notes, results, write_json


def logout(*, as_json: Json = False) -> int:
    """Log out this machine: its keys are revoked on the server, if it can be reached, and forgotten here."""
    stored = read_login()
    if stored is None:
        if as_json:
            write_json({"logged_out": False, "revoked": [], "error": "not logged in"})
        else:
            notes().print("not logged in")
        return Exit.OK
    revoked, failure = _revoked(stored)
    gone = forget_login(stored)
    if as_json:
        error = failure.message if failure else None
        write_json({"logged_out": True, "revoked": revoked, "error": error})
    else:
        results().print(f"logged out of {stored.server}", markup=False, highlight=False)
    if failure is not None or not stored.key_ids:
        left = ", ".join(key_id for key_id in stored.key_ids if key_id not in revoked)
        why = f" ({failure.message})" if failure else ""
        notes().print(
            f"until somebody revokes them there, keys may still work: {left or 'their ids are unknown'}{why}",
            markup=False,
        )
    if not gone:
        notes().print(f"the keyring did not forget the keys: remove `tokentide` from {stored.kept_in}")
    return Exit.OK


def _revoked(stored: StoredLogin) -> tuple[list[str], Failure | None]:
    try:
        api_key = keys_of(stored).api_key
    except Failure as failure:
        return [], failure
    return revoke_keys(stored, api_key)


def revoke_keys(stored: StoredLogin, api_key: str) -> tuple[list[str], Failure | None]:
    """Revoke the keys of a login with a key of its user; return which, and what came in between."""
    revoked: list[str] = []
    requests = AccountRequests(Connection(stored.server, api_key))
    try:
        # The login's own API key comes last: with it all this is done at a logout.
        for key_id in stored.key_ids:
            answer = requests.send("DELETE", f"keys/{segment(key_id)}")
            # Also 401: with an API key that has ended the machine key, which does not end, goes on.
            if not answer.is_success and answer.status_code != httpx.codes.NOT_FOUND:
                raise refusal(answer)
            revoked.append(key_id)
    except Failure as failure:
        return revoked, failure
    return revoked, None
