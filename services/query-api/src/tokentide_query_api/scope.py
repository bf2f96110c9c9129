"""Which calls a question may be about, and which of them it is about. Pure."""

from __future__ import annotations

import msgspec

from tokentide_query_api.dimensions import Dimension


class Filter(msgspec.Struct, frozen=True):
    """Calls whose dimension has one of these values, or with `exclude` none of them.

    `fold`: in lower case, as the values are.
    """

    dimension: Dimension
    values: tuple[str, ...]
    exclude: bool = False
    fold: bool = False

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions that a table must know to apply it."""
        return (self.dimension,)


class AnyOf(msgspec.Struct, frozen=True):
    """Calls that pass at least one of these filters; of none, no call at all."""

    filters: tuple[Filter, ...]

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions that a table must know to apply it."""
        return tuple(each.dimension for each in self.filters)


Condition = Filter | AnyOf


class Sight(msgspec.Struct, frozen=True):
    """What of the data a caller may see at all. Made from a principal, in `visibility.py` alone."""

    org_id: str
    own: AnyOf | None
    """None: whatever the organisation has; else only the calls that pass."""
    people: bool
    """Whether persons, machines, sessions and single calls may be told apart."""


class Scope(msgspec.Struct, frozen=True):
    """Which calls a question is about: of what its caller may see, what the filters leave."""

    sight: Sight
    start_ms: int
    end_ms: int
    filters: tuple[Condition, ...] = ()

    @property
    def org_id(self) -> str:
        """The organisation whose calls they are."""
        return self.sight.org_id

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions that a table must know to apply the filters, those of the caller's sight first."""
        own = self.sight.own.dimensions if self.sight.own is not None else ()
        return (*own, *(d for f in self.filters for d in f.dimensions))

    def narrowed(self, *filters: Condition) -> Scope:
        """Return the part of it that passes these filters besides."""
        return Scope(self.sight, self.start_ms, self.end_ms, (*self.filters, *filters))
