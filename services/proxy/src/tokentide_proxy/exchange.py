"""The words of the proxy: where a request goes, for whom, and what was seen of the call."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from tokentide_common.key_directory import KeyRecord

Dialect = Literal["anthropic", "openai", "gemini"]
Headers = list[tuple[bytes, bytes]]
"""As on the wire: order, repeats and values kept; names in lower case."""


class Upstream(msgspec.Struct, frozen=True):
    """A provider, or a gateway that speaks like one. Only settings name it, never a request."""

    name: str
    """Also the first segment of the path that leads to it; "" for the one at `/`."""
    dialect: Dialect
    provider: str
    """As pricing knows it: anthropic, openai, google, …"""
    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""
    """Goes before every path, without a slash at its end."""
    allow_private: bool = False
    """May resolve to a private, loopback or link-local address."""
    asks_for_usage: bool = False
    """Knows `stream_options.include_usage`, so that it can be asked for on a client's behalf."""

    @property
    def label(self) -> str:
        """Its name where that must not be empty: in metrics and logs, and of the key that is kept for it."""
        return self.name or self.dialect


class Attribution(msgspec.Struct, frozen=True):
    """Whom a call is counted for, as far as the request itself says, and which attempt at it it is."""

    user_id: str = ""
    user_email: str = ""
    session_id: str = ""
    project: str = ""
    team: str = ""
    department: str = ""
    agent: str = ""
    device_id: str = ""
    account_id: str = ""
    client: str = ""
    retry_attempt: int = 0
    tags: dict[str, str] = {}


class Admission(msgspec.Struct, frozen=True):
    """Whom a request is for, and what goes to the provider in place of what came."""

    key: KeyRecord
    mode: Literal["managed", "passthrough", "local"]
    target: bytes
    headers: Headers
    digest: str = ""
    """Of the Tokentide key that was shown."""
    secret: str = ""
    """The provider's key that was put in its place, as it is kept."""


class RequestFacts(msgspec.Struct, frozen=True):
    """What a request's body says besides its content."""

    model: str = ""
    device_id: str = ""
    account_id: str = ""
    session_id: str = ""


class Observer(msgspec.Struct, frozen=True):
    """Whose limits they are, and when they were seen."""

    provider: str
    observed_at: datetime
    org_id: str = ""
    key_id: str = ""
    account_id: str = ""
    """Used where the answer names no account of its own."""
    model: str = ""
    """Which model answered: but for a subscription's windows, models have limits of their own."""
