"""Reading what is readable of a document of which something is not as it should be."""

from __future__ import annotations

from functools import lru_cache
from types import UnionType
from typing import Any, Final, TypeVar, cast, get_args

import msgspec

_Said = TypeVar("_Said")

_MOST_LEVELS: Final = 8
_USAGE: Final = frozenset({"usage", "usage_metadata"})


def what_fits(kind: type[_Said], data: bytes) -> _Said | None:
    """Return a document as a struct, without the members that have another type; None if it is no object.

    One odd member, a gateway's `"error": ""` say, costs nothing but itself: the usage beside it stands. It
    takes far longer than decoding, so it is for what could not be decoded. Raises `msgspec.DecodeError`, also
    where nothing of the usage fits: without it the document would look like that of a free call.
    """
    return _fitting(kind, msgspec.json.decode(data), _MOST_LEVELS)


def _fitting(kind: type[_Said], said: object, levels: int) -> _Said | None:
    if not isinstance(said, dict) or not levels:
        return None
    fits, told = {}, 0
    for field in msgspec.structs.fields(cast("type[msgspec.Struct]", kind)):
        value = said.get(field.encode_name)
        if value is None:
            continue
        told += 1
        fitting = _member(field.type, value, levels)
        if fitting is not None:
            fits[field.name] = fitting
        elif field.name in _USAGE and value:
            raise msgspec.ValidationError("the usage has another form")
    return kind(**fits) if fits or not told else None


def _member(type_: object, value: object, levels: int) -> object:
    try:
        fitting: object = msgspec.convert(value, type_, strict=False)
    except msgspec.ValidationError:
        inner = _struct_in(type_)
        fitting = None if inner is None else _fitting(inner, value, levels - 1)
    return fitting


@lru_cache(maxsize=64)
def _struct_in(type_: object) -> type[Any] | None:
    options = get_args(type_) if isinstance(type_, UnionType) else (type_,)
    return next((one for one in options if isinstance(one, type) and issubclass(one, msgspec.Struct)), None)
