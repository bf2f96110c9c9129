"""Who sent it, and for which team: what the attributes of every client say in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokentide_ingest.otlp.reading import first, text
from tokentide_ingest.otlp.telemetry import Attributes

MAX_TAGS: Final = 32
_MAX_TAG_NAME: Final = 64
_SCOPES: Final = (
    ("department", ("department",)),
    ("team", ("team.id", "team")),
    ("cost_center", ("cost_center",)),
    ("project", ("project", "project.name")),
)
_DEVICES: Final = ("user.id", "installation.id")
# Behind a company's gateway `user.id` is the person at the identity provider, not an installation.
_ACCOUNTS: Final = ("user.account_uuid", "user.account_id")


class Origins:
    """Reads the origin of records that mostly come from one resource after the other."""

    def __init__(self, tag_attributes: Mapping[str, str]) -> None:
        self._tags = [
            (key, name)
            for key, name in sorted(tag_attributes.items(), key=lambda pair: pair[1])
            if 0 < len(name) <= _MAX_TAG_NAME
        ][:MAX_TAGS]
        self._resource: Attributes | None = None
        self._of_resource: dict[str, Any] = {}

    def of(self, resource: Attributes, attributes: Attributes) -> dict[str, Any]:
        """Return the fields that events and facts share: people, teams and tags, as far as they are known.

        A resource goes before a record where both name a team: it is what the organisation configured.
        """
        if resource is not self._resource:
            self._of_resource = {**_person(resource), **_scope(resource)}
            self._resource = resource
        said = {**_scope(attributes), **self._of_resource, **_person(attributes)}
        if tags := self._tagged(resource, attributes):
            said["tags"] = tags
        return said

    def _tagged(self, resource: Attributes, attributes: Attributes) -> dict[str, str]:
        tags: dict[str, str] = {}
        for key, name in self._tags:
            if name not in tags and (value := text(attributes, key) or text(resource, key)):
                tags[name] = value
        # The same name as the log's reader gives it: where a session was started from.
        if len(tags) < MAX_TAGS and (entrypoint := text(attributes, "app.entrypoint")):
            tags.setdefault("entrypoint", entrypoint)
        return tags


def _person(attributes: Attributes) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if email := text(attributes, "user.email").strip().casefold():
        # Lower case can be longer than upper case.
        said["user_email"] = said["user_id"] = email[:256]
    account, device = first(attributes, _ACCOUNTS), first(attributes, _DEVICES)
    if not account and "identity.source" in attributes:
        account, device = device, ""
    if account:
        said["account_id"] = account
    if device:
        said["device_id"] = device
    return said


def _scope(attributes: Attributes) -> dict[str, Any]:
    return {field: said for field, keys in _SCOPES if (said := first(attributes, keys))}
