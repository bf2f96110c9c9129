"""Who sent it, and for which team: what the attributes of every client say in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tokentide_common.events import UsageEvent
from tokentide_ingest.otlp.alike import Alike
from tokentide_ingest.otlp.kept import CONTENT
from tokentide_ingest.otlp.reading import first, text
from tokentide_ingest.otlp.telemetry import Attributes

Origin = Mapping[str, Any]
"""The fields that events and facts share: people, teams and tags, as far as they are known."""
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
_EMAIL: Final = "user.email"
_PROVIDER: Final = "identity.source"
_ENTRYPOINT: Final = "app.entrypoint"
_READ: Final = (
    *(key for _, keys in _SCOPES for key in keys),
    *(*_DEVICES, *_ACCOUNTS, _EMAIL, _PROVIDER, _ENTRYPOINT),
)


class Origins:
    """Reads the origin of the records of a request, which mostly is the one of the record before."""

    def __init__(self, tag_attributes: Mapping[str, str]) -> None:
        self._tags = [
            (key, name)
            for key, name in sorted(tag_attributes.items(), key=lambda pair: pair[1])
            if 0 < len(name) <= _MAX_TAG_NAME and key not in CONTENT
        ][:MAX_TAGS]
        self._keys = (*_READ, *(key for key, _ in self._tags))
        self._origins = Alike(self._keys, self._read)
        self._events: dict[Callable[[Attributes, Origin], UsageEvent], Alike[UsageEvent]] = {}

    def of(self, resource: Attributes, attributes: Attributes) -> Origin:
        """Return where a record comes from.

        A resource goes before a record where both name a team: it is what the organisation configured.
        """
        return self._origins.of(resource, attributes)

    def events(
        self, keys: Iterable[str], begin: Callable[[Attributes, Origin], UsageEvent]
    ) -> Alike[UsageEvent]:
        """Return what makes, of all records with the same `keys` and origin, one event to copy.

        `begin` gets a record's attributes, of which it reads only `keys`, and its origin.
        """
        if (known := self._events.get(begin)) is None:
            known = self._events[begin] = Alike(
                (*keys, *self._keys), lambda resource, said: begin(said, self.of(resource, said))
            )
        return known

    def _read(self, resource: Attributes, attributes: Attributes) -> Origin:
        origin = {**_scope(attributes), **_scope(resource), **_person(resource), **_person(attributes)}
        if tags := self._tagged(resource, attributes):
            origin["tags"] = tags
        return origin

    def _tagged(self, resource: Attributes, attributes: Attributes) -> dict[str, str]:
        tags: dict[str, str] = {}
        for key, name in self._tags:
            if name not in tags and (value := text(attributes, key) or text(resource, key)):
                tags[name] = value
        # The same name as the log's reader gives it: where a session was started from.
        if len(tags) < MAX_TAGS and (entrypoint := text(attributes, _ENTRYPOINT)):
            tags.setdefault("entrypoint", entrypoint)
        return tags


def _person(attributes: Attributes) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if email := text(attributes, _EMAIL).strip().casefold():
        # Lower case can be longer than upper case.
        said["user_email"] = said["user_id"] = email[:256]
    account, device = first(attributes, _ACCOUNTS), first(attributes, _DEVICES)
    if not account and _PROVIDER in attributes:
        account, device = device, ""
    if account:
        said["account_id"] = account
    if device:
        said["device_id"] = device
    return said


def _scope(attributes: Attributes) -> dict[str, Any]:
    return {field: said for field, keys in _SCOPES if (said := first(attributes, keys))}
