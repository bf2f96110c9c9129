"""Whom a call is counted for: what its request says goes first, then its key's defaults. Pure."""

from __future__ import annotations

from tokentide_common.key_directory import KeyRecord
from tokentide_proxy.exchange import Attribution


class Whom:
    """By the same words a call is counted and falls under budgets. The organisation is always the key's."""

    __slots__ = (
        "account_id",
        "agent",
        "client",
        "department",
        "device_id",
        "key_id",
        "machine_id",
        "org_id",
        "project",
        "retry_attempt",
        "session_id",
        "tags",
        "team",
        "user_email",
        "user_id",
    )

    def __init__(self, key: KeyRecord, said: Attribution) -> None:
        self.org_id = key.org_id
        self.key_id = key.key_id
        self.machine_id = key.machine_id
        self.user_id = said.user_id or key.user_id
        self.user_email = said.user_email or key.user_email
        self.project = said.project or key.project
        self.team = said.team or key.team
        self.department = said.department or key.department
        self.account_id = said.account_id
        self.device_id = said.device_id
        self.session_id = said.session_id
        self.agent = said.agent
        self.client = said.client
        self.retry_attempt = said.retry_attempt
        self.tags = said.tags
