"""What many records of a request say in the same words is read once for all of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from tokentide_ingest.otlp.telemetry import Attributes, Scalar

T = TypeVar("T")
# Sessions and models take turns within a request; more than this are no more worth remembering.
_MAX_REMEMBERED: Final = 64


class Alike(Generic[T]):
    """Remembers what `read` made of a resource and a record's attributes, by the values of some attributes.

    `read` must look at no other attributes of the record. What it returns is shared: nobody changes it.
    """

    def __init__(self, keys: Iterable[str], read: Callable[[Attributes, Attributes], T]) -> None:
        self._keys = tuple(dict.fromkeys(keys))
        self._read = read
        self._resource: Attributes = {}
        self._known: dict[tuple[Scalar | None, ...], T] = {}

    def of(self, resource: Attributes, attributes: Attributes) -> T:
        """Return what `read` returns; raises what it raises, each time again."""
        if resource is not self._resource:
            self._resource, self._known = resource, {}
        said = tuple(map(attributes.get, self._keys))
        if (known := self._known.get(said)) is not None:
            return known
        found = self._read(resource, attributes)
        # Only texts are remembered: True and 1 are equal, and spelled differently.
        if all(value is None or isinstance(value, str) for value in said):
            if len(self._known) == _MAX_REMEMBERED:
                self._known.clear()
            self._known[said] = found
        return found
