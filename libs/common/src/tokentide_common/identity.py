"""Call identity: which id of a call is the one that most sources know (design section 2)."""

from __future__ import annotations

import hashlib

# Ids that only a provider issues. Gateways reuse others (`chatcmpl-1`, a counter), so those are scoped.
_ANTHROPIC_REQUEST = "req_"
_PROVIDER_ISSUED = ("req_", "msg_", "resp_")
_MESSAGE = "msg_"
_DERIVED = "x_"
# Its response ids are random but carry no mark. They are not scoped, since a proxy, which knows no session of
# the client, must come to the same id.
_UNMARKED = "google"
_MAX_LENGTH = 256
# From here on an id is no counter: `chatcmpl-` and 29 random characters, for one.
_RANDOM_LENGTH = 24


def call_id_for(
    *,
    request_id: str = "",
    message_id: str = "",
    response_id: str = "",
    session_id: str = "",
    provider: str = "",
) -> str:
    """Return the identity of a call from the ids that a source knows, "" if it knows none.

    Anthropic's request id wins (log, telemetry and response header carry the same string), then OpenAI's
    or Gemini's response id, then the message id. An id that no provider issued is scoped by the session,
    since gateways hand out the same one twice. Machine, project and arrival order are never a part.
    """
    if request_id.startswith(_ANTHROPIC_REQUEST):
        return request_id
    if response_id and provider == _UNMARKED:
        return response_id
    for candidate in (response_id, message_id, request_id):
        if candidate:
            return candidate if candidate.startswith(_PROVIDER_ISSUED) else f"{session_id}:{candidate}"
    return ""


def fitting(call_id: str, *, anthropic: bool) -> str:
    """Return an id as it is, or a digest where a long session makes it longer than an event can carry.

    All who saw a call come to the same one: log, telemetry and proxy of Claude Code, which speaks Anthropic's
    dialect, and spans and proxy of the others. The salts are as old as the calls that are counted by them.
    """
    if len(call_id) <= _MAX_LENGTH:
        return call_id
    return derived_call_id("claude-code" if anthropic else "otlp", call_id)


def scope_of(response_id: str, session_id: str, otherwise: str) -> str:
    """Return within what an id that no provider marked as its own is taken for one call.

    The session, if there is one. Without it a long random id stands for itself, so that all who saw it mean
    the same call; a short one, such as a gateway's counter, means a call only within `otherwise`.
    """
    return session_id or ("" if is_random(response_id) else otherwise)


def is_random(response_id: str) -> bool:
    """Tell whether an id is too long for a counter: then nobody hands it out twice."""
    return len(response_id) >= _RANDOM_LENGTH


def derived_call_id(*parts: str | int) -> str:
    """Return a deterministic id for a source without any: `x_` + 128 bits over its distinguishing parts.

    For example root thread and cumulative token vector (old Codex logs), or creation time, model and
    token vector (OpenCode), so that copies of one call get one id.
    """
    text = "\x1f".join(str(part) for part in parts)
    return _DERIVED + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_derived(call_id: str) -> bool:
    """Tell whether an id was derived for want of any other."""
    return call_id.startswith(_DERIVED)


def is_issued(call_id: str) -> bool:
    """Tell whether an id shows that a provider issued it."""
    return call_id.startswith(_PROVIDER_ISSUED)


def message_of(call_id: str) -> str:
    """Return the id of the answer where that alone names the call, "" where something better does.

    A source that knows no more, such as a span, means the call that others know by its request or session.
    """
    if call_id.startswith(_MESSAGE):
        return call_id
    return call_id[1:] if call_id.startswith(":") and is_random(call_id[1:]) else ""


def known_by(message_id: str) -> str:
    """Return the id of a call of which no more is known than the id of the answer."""
    return message_id if message_id.startswith(_MESSAGE) else f":{message_id}"


def alias_and_call(one: str, other: str) -> tuple[str, str]:
    """Return, of two ids of one call, the one that is given up and the one that the call is counted under.

    It is a total order: whoever says that two ids are one call, and in which direction, links lead down it
    and never in a circle.
    """
    kept = min(one, other, key=_order)
    return (other if kept == one else one), kept


def _order(call_id: str) -> tuple[int, str]:
    """Of ids, a provider's id of a request or response goes first, then its id of a message, then one that
    is scoped, then one that stands for itself, and last what was derived; of a kind, the smaller.
    """
    if is_derived(call_id):
        return 4, call_id
    if call_id.startswith(_MESSAGE):
        return 1, call_id
    if is_issued(call_id):
        return 0, call_id
    return (3 if call_id.startswith(":") else 2), call_id


def call_hash(org_id: str, call_id: str) -> bytes:
    """Return the 16 bytes under which the aggregator remembers a call of an organisation.

    Cryptographic, because call ids come from clients: nobody can craft one that collides with another's.
    """
    return hashlib.blake2b(f"{org_id}\x1f{call_id}".encode(), digest_size=16).digest()
