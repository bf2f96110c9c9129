"""Whom a call is counted for, as far as its request says, and how often it was tried before. Pure; never the
organisation, which is the key's.

Our own headers (`x-tokentide-user`, `-project`, `-team`, `-department`, `-session`, `-tags`) go first, then
what the clients themselves send: Claude Code's session and agent headers, the session headers of OpenCode
and Codex, and the `metadata.user_id` of Anthropic's Messages API, in both forms that Claude Code has written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from tokentide_proxy.exchange import Attribution, Headers, RequestFacts
from tokentide_proxy.request_schema import BODIES, USER_IDS

_MAX_TEXT: Final = 256
_MAX_PROJECT: Final = 1024
_MAX_TAGS: Final = 32
_MAX_TAG_NAME: Final = 64
# Bodies up to here are looked at once the call has ended; only ids and the model are decoded.
MAX_READ_BODY: Final = 4 * 1024 * 1024
_OURS: Final = {
    b"user": (b"x-tokentide-user", b"x-cua-user"),
    b"project": (b"x-tokentide-project", b"x-cua-project"),
    b"team": (b"x-tokentide-team",),
    b"department": (b"x-tokentide-department", b"x-cua-department"),
    b"session": (
        *(b"x-tokentide-session", b"x-claude-code-session-id", b"x-session-id"),
        # Codex, today and before.
        *(b"session-id", b"session_id"),
    ),
    b"agent": (b"x-claude-code-agent-id",),
    b"tags": (b"x-tokentide-tags",),
    b"program": (b"user-agent",),
    # The official SDKs. Claude Code tries again outside of its SDK, which then says 0: that is no statement.
    b"retry": (b"x-stainless-retry-count",),
}
# Whole header lines: of tags, each is bounded by itself.
_MOST: Final = {b"project": _MAX_PROJECT, b"tags": 1 << 16}
_NAMES: Final = frozenset(name for names in _OURS.values() for name in names)
_REMEMBERED: Final = 1024
# Removed on the way: they are for us, and a provider has no use for names of people.
TRACKING_PREFIXES: Final = (b"x-tokentide-", b"x-cua-")
_PROGRAMS: Final = (
    ("claude-cli", "claude-code"),
    ("codex", "codex"),
    ("geminicli", "gemini-cli"),
    ("opencode", "opencode"),
)
_RETRIES: Final = re.compile(r"[0-9]{1,4}")
_PRODUCT: Final = re.compile(r"[a-z0-9._-]{1,64}")
_OLD_USER_ID: Final = re.compile(r"user_([0-9a-f]{64})_account_([0-9a-f-]*)_session_([0-9a-f-]{1,64})")


def attribution_of(headers: Headers) -> Attribution:
    """Return what the headers of a request say of whom it is for."""
    return _attribution(tuple([header for header in headers if header[0] in _NAMES]))


@lru_cache(maxsize=_REMEMBERED)  # a client says the same with each of its requests
def _attribution(headers: tuple[tuple[bytes, bytes], ...]) -> Attribution:
    named = dict(headers)
    said = {what: _first(named, names, _MOST.get(what, _MAX_TEXT)) for what, names in _OURS.items()}
    user, person = said[b"user"], _bounded(said[b"user"].casefold())  # folded, some letters are two
    return Attribution(
        user_id=person if "@" in user else user,
        user_email=person if "@" in user else "",
        session_id=said[b"session"],
        project=said[b"project"],
        team=said[b"team"],
        department=said[b"department"],
        agent=said[b"agent"],
        client=_program(said[b"program"]),
        retry_attempt=_retries(said[b"retry"]),
        tags=_tags(said[b"tags"]),
    )


def request_facts(body: bytes | bytearray) -> RequestFacts:
    """Return model and ids of a request's JSON body; nothing of anything else, and never an error."""
    try:
        read = BODIES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return RequestFacts()
    device, account, session = _user_id(read.metadata.user_id) if read.metadata else ("", "", "")
    return RequestFacts(_bounded(read.model), _bounded(device), _bounded(account), _bounded(session))


def _user_id(text: str) -> tuple[str, str, str]:
    old = _OLD_USER_ID.fullmatch(text)
    if old is not None:
        return old[1], old[2], old[3]
    try:
        new = USER_IDS.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # Another program's own idea of a user: it may be anything, an address of mail included.
        return "", "", ""
    return new.device_id, new.account_uuid, new.session_id


def _first(named: Mapping[bytes, bytes], names: tuple[bytes, ...], most: int) -> str:
    return next((_bounded(_text(named[name]).strip(), most) for name in names if named.get(name)), "")


def _text(value: bytes) -> str:
    """Return what a header says: clients write UTF-8 today, and wrote Latin-1 before."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _bounded(text: str, most: int = _MAX_TEXT) -> str:
    return text if len(text) <= most else ""


def _program(user_agent: str) -> str:
    """Return the program's short name: ours for the known ones, else the product of its user agent."""
    product = user_agent.partition("/")[0].strip().casefold()
    known = next((name for start, name in _PROGRAMS if product.startswith(start)), "")
    return known or (product if _PRODUCT.fullmatch(product) else "")


def _retries(text: str) -> int:
    return int(text) if _RETRIES.fullmatch(text) else 0


def _tags(text: str) -> dict[str, str]:
    """Read `name=value,name=value`; a part without a name or a value is left out, a long value is cut."""
    pairs = (part.partition("=") for part in text.split(","))
    named = {name.strip(): value.strip() for name, _, value in pairs if name.strip() and value.strip()}
    fitting = [name for name in named if len(name) <= _MAX_TAG_NAME]
    return {name: named[name][:_MAX_TEXT] for name in sorted(fitting)[:_MAX_TAGS]}
