"""What is read of a request's body: the model and ids, and nothing of anything else."""

from __future__ import annotations

from typing import Final

import msgspec


class Metadata(msgspec.Struct):
    """Of Anthropic's Messages API."""

    user_id: str = ""


class Body(msgspec.Struct):
    """A request to any provider."""

    model: str = ""
    metadata: Metadata | None = None


class UserId(msgspec.Struct):
    """What Claude Code writes into `metadata.user_id` since 2.1, as JSON."""

    device_id: str = ""
    account_uuid: str = ""
    session_id: str = ""


BODIES: Final = msgspec.json.Decoder(Body)
USER_IDS: Final = msgspec.json.Decoder(UserId)
