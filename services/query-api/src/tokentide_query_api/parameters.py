"""The query parameters of every route, declared once: for reading a request, for refusing what is unknown,
and for the OpenAPI document. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from tokentide_common.errors import InvalidRequest
from tokentide_query_api.buckets import BUCKETS
from tokentide_query_api.dimensions import DIMENSIONS, METRICS, Dimension, dimension
from tokentide_query_api.scope import Filter, Sight
from tokentide_query_api.visibility import require_sight_of

FORMATS: Final = ("json", "csv", "ndjson", "parquet")
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500
_MAX_PARAMETERS: Final = 500
_MAX_LENGTH: Final = 1024


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter. `choices` closes its set of values. Where one is a filter, tags filter too."""

    name: str
    description: str
    choices: tuple[str, ...] = ()
    default: str = ""
    repeated: bool = False
    filters: bool = False


FROM: Final = Parameter(
    "from",
    "Start: RFC 3339, a local date, or a named period (today, 7d, month, …); 30d when left out with `to`.",
)
TO: Final = Parameter("to", "End, not included: RFC 3339, or a local date or named period up to its end.")
TZ: Final = Parameter("tz", "IANA time zone of dates, named periods and buckets.", default="UTC")
FORMAT: Final = Parameter("format", "Instead of the Accept header.", FORMATS)
LIMIT: Final = Parameter("limit", f"Rows of a page, 1 to {MAX_LIMIT}.", default=str(DEFAULT_LIMIT))
CURSOR: Final = Parameter("cursor", "The `next_cursor` of the page before, with the same other parameters.")
BUCKET: Final = Parameter("bucket", "Width of a bucket.", BUCKETS, "day")
GROUP_BY: Final = Parameter("group_by", "Up to two dimensions, one series each.", repeated=True)
BY: Final = Parameter("by", "One or two dimensions.", default="model", repeated=True)
METRIC: Final = Parameter(
    "metric", "The measure that orders the rows and is shared out.", tuple(METRICS), "cost"
)


def filters_on(names: Iterable[str], what: str) -> tuple[Parameter, ...]:
    """Return for each dimension the parameter that picks and the one that excludes."""
    return tuple(
        Parameter(
            prefix + name,
            f"{verb} {what} with this {name}; repeated: any of them.",
            repeated=True,
            filters=True,
        )
        for name in names
        for prefix, verb in (("", "Only"), ("not_", "No"))
    )


FILTERS: Final = filters_on(DIMENSIONS, "calls")
PERIOD: Final = (FROM, TO, TZ, FORMAT)


class Arguments:
    """The parameters of one request, all of them known to its route.

    A dimension that its caller may not see is refused here, where each one that a caller names becomes one.
    """

    def __init__(self, query: bytes, allowed: Sequence[Parameter], sight: Sight) -> None:
        self._sight = sight
        self._allowed = {p.name: p for p in allowed}
        self._values = _parsed(query)
        filters = any(p.filters for p in allowed)
        unknown = [n for n in self._values if n not in self._allowed and not (filters and _is_tag(n))]
        if unknown:
            raise InvalidRequest(
                f"unknown query parameters; allowed are {', '.join(_names(allowed))}",
                code="unknown_parameter",
                fields={name[:100]: "is not a parameter of this route" for name in unknown},
            )

    def one(self, parameter: Parameter) -> str | None:
        """Return the value of a parameter, or its default, or None. Raises `InvalidRequest`."""
        values = self._values.get(parameter.name, ())
        if len(values) > 1:
            raise InvalidRequest(
                f"{parameter.name} is given twice",
                code="repeated_parameter",
                fields={parameter.name: "give it once"},
            )
        value = values[0] if values and values[0] != "" else parameter.default
        if value and parameter.choices and value not in parameter.choices:
            raise InvalidRequest(
                f"{parameter.name} has a value that does not exist",
                code="invalid_parameter",
                fields={parameter.name: f"one of {', '.join(parameter.choices)}"},
            )
        return value or None

    def text(self, parameter: Parameter) -> str:
        """Return the value of a parameter that has a default."""
        return self.one(parameter) or ""

    def several(self, parameter: Parameter) -> tuple[str, ...]:
        """Return all values of a parameter that may be repeated, also the empty ones.

        Raises `InvalidRequest`.
        """
        values = self._values.get(parameter.name, ())
        if parameter.choices and not set(values) <= set(parameter.choices):
            raise InvalidRequest(
                f"{parameter.name} has a value that does not exist",
                code="invalid_parameter",
                fields={parameter.name: f"one of {', '.join(parameter.choices)}"},
            )
        return values

    def number(self, parameter: Parameter, most: int = MAX_LIMIT) -> int:
        """Return a whole number from 1 to `most`. Raises `InvalidRequest`."""
        text = self.text(parameter)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
            raise InvalidRequest(
                f"{parameter.name} is out of range",
                code="invalid_parameter",
                fields={parameter.name: f"a whole number from 1 to {most}"},
            )
        return int(text)

    def dimensions(
        self, parameter: Parameter, *, least: int, known: Mapping[str, Dimension] = DIMENSIONS
    ) -> tuple[Dimension, ...]:
        """Return `least` to two different dimensions, comma-separated or repeated.

        Raises `InvalidRequest` and `Forbidden`.
        """
        given = self._values.get(parameter.name, (parameter.default,))
        names = [name for text in given for name in text.split(",") if name]
        if not least <= len(names) <= 2 or len(set(names)) < len(names):
            raise InvalidRequest(
                f"{parameter.name} takes {least} to 2 different dimensions",
                code="invalid_parameter",
                fields={parameter.name: "for example model or team,model"},
            )
        return tuple(self._seen(name, known) for name in names)

    def filters(self, known: Mapping[str, Dimension] = DIMENSIONS) -> tuple[Filter, ...]:
        """Return the filters on known dimensions and on tags, in a fixed order.

        Raises `InvalidRequest` and `Forbidden`.
        """
        found = []
        for name in sorted(self._values):
            declared = self._allowed.get(name)
            if declared is None or declared.filters:
                bare = name if name in known else name.removeprefix("not_")
                what = self._seen(bare, known)
                found.append(_filter(what, self._values[name], exclude=bare != name))
        return tuple(found)

    def _seen(self, name: str, known: Mapping[str, Dimension]) -> Dimension:
        found = dimension(name, known)
        require_sight_of(self._sight, found)
        return found

    def others(self, *left_out: Parameter) -> list[tuple[str, tuple[str, ...]]]:
        """Return all parameters but some, in a fixed order: what a cursor must be used with."""
        out = {p.name for p in left_out}
        return sorted((name, values) for name, values in self._values.items() if name not in out)


def _parsed(query: bytes) -> Mapping[str, tuple[str, ...]]:
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise InvalidRequest(
            f"the query string is not UTF-8 in percent-encoding, or has over {_MAX_PARAMETERS} parameters",
            code="invalid_query_string",
        ) from None
    values: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if len(value) > _MAX_LENGTH and name != CURSOR.name:
            raise InvalidRequest(
                "a value is too long",
                code="invalid_parameter",
                fields={name[:100]: f"at most {_MAX_LENGTH} characters"},
            )
        values[name] = (*values.get(name, ()), value)
    return values


def _filter(what: Dimension, values: tuple[str, ...], *, exclude: bool) -> Filter:
    if what.kind.value == "flag" and not set(values) <= {"true", "false"}:
        raise InvalidRequest(
            "a flag is true or false", code="invalid_parameter", fields={what.name: "true or false"}
        )
    return Filter(what, values, exclude)


def _is_tag(name: str) -> bool:
    return name.removeprefix("not_").startswith("tag.")


def _names(allowed: Iterable[Parameter]) -> list[str]:
    """Return names for a message: the filters as one rule instead of two names for each dimension."""
    names = [p.name for p in allowed if not p.filters]
    dimensions = [p.name for p in allowed if p.filters and not p.name.startswith("not_")]
    return (
        [*names, *dimensions, "tag.<key>", "and each of these dimensions with not_"] if dimensions else names
    )
