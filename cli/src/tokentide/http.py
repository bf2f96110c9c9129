"""The HTTP client of every command, and what a server's refusal means to the person at the terminal."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec

from tokentide.connection import Connection
from tokentide.failures import Exit, Failure

# The server may be up again in a moment, or is busy: the same request can succeed later.
TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_HINTS: Final = {
    401: "log in again with `tokentide login`, or check TOKENTIDE_KEY or --key: `push` needs a machine key"
    " (tt_m_…), the others an API key (tt_a_…)",
    403: "who refuses is no Tokentide server: something in front of it, or another program at this address?",
    404: "check the address: is another program listening there?",
    413: "a proxy in front of the server may allow smaller bodies than 10 MiB",
}


# By the code of a Tokentide server; the words of its other refusals say what to do.
_HINTS_OF_CODES: Final = {
    "forbidden": "ask an owner or admin of the organisation, or take a key of another role or scope",
}


class _FieldError(msgspec.Struct):
    field: str = ""
    detail: str = ""


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""
    code: str = ""
    errors: list[_FieldError] = []


def open_client(connection: Connection, *, timeout_s: float) -> httpx.Client:
    """Return a client for one server; close it after use."""
    host = urlsplit(connection.url).hostname or ""
    return httpx.Client(
        base_url=connection.url,
        headers={
            **({"authorization": f"Bearer {connection.key}"} if connection.key else {}),
            "user-agent": f"tokentide/{version('tokentide')}",
        },
        timeout=httpx.Timeout(timeout_s, connect=10),
        # A proxy for the outside world cannot reach this machine.
        trust_env=host not in ("127.0.0.1", "localhost", "::1"),
    )


def refusal(answer: httpx.Response) -> Failure:
    """Return the failure that an answer which is no success amounts to, in the server's words."""
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        problem = _Problem()
    said = problem.detail or problem.title or answer.reason_phrase
    code = f" ({problem.code})" if problem.code else ""
    fields = "".join(f"\n  {error.field}: {error.detail}" for error in problem.errors)
    # Who names a code is a Tokentide server: the address is right, and the key is good.
    known = answer.status_code in (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND) and problem.code
    hint = _HINTS_OF_CODES.get(problem.code, "") if known else _HINTS.get(answer.status_code, "")
    where = f"{answer.request.url.scheme}://{answer.request.url.netloc.decode()}"
    return Failure(
        f"{where} answered {answer.status_code}{code}: {said}{fields}",
        hint=hint,
        code=Exit.TRY_LATER if answer.status_code in TRY_AGAIN else Exit.FAILED,
    )


def unreachable(connection: Connection, error: httpx.TransportError) -> Failure:
    """Return the failure that no answer at all amounts to."""
    return Failure(
        f"cannot reach {connection.url}: {error or type(error).__name__}",
        hint="is the server running? `tokentide up` starts one on this machine",
        code=Exit.TRY_LATER,
    )
