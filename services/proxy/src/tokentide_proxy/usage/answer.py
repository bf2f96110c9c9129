"""What the dialects have in common: their shape, and how far a provider's words are trusted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Protocol, TypeVar

import msgspec

from tokentide_common.events import MAX_COUNT
from tokentide_proxy.observed import Observed
from tokentide_proxy.usage.excerpt import Wanted
from tokentide_proxy.usage.what_fits import what_fits

# An error type, a stop reason or a tier is a word of a closed list; anything else could be content.
_WORD: Final = re.compile(r"[a-z_]{1,64}", re.ASCII)
_MAX_WORD: Final = 64
_REMEMBERED: Final = 1024
_TOO_LONG: Final = 257
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/@+=\[\]-]{1,256}", re.ASCII)

_Said = TypeVar("_Said")


class Answer(Protocol):
    """One dialect's understanding of an answer. What it cannot decode tells it nothing."""

    observed: Observed
    markers: tuple[bytes, ...]
    """An event that contains none of these has nothing to read: it is passed over undecoded."""
    wanted: Wanted
    """What to keep of a document that is too large to be held."""

    def event(self, data: bytes) -> None:
        """Take the data of one server-sent event, or one element of a streamed array."""

    def document(self, data: bytes) -> None:
        """Take a body that is one JSON document."""

    def end(self) -> None:
        """The body is complete."""


def decoded(decoder: msgspec.json.Decoder[_Said], data: bytes) -> _Said | None:
    """Return what a document says, None if it is garbage: one broken event leaves the others readable."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        return _what_fits(decoder, data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _what_fits(decoder: msgspec.json.Decoder[_Said], data: bytes) -> _Said | None:
    try:
        kind: type[_Said] = decoder.type
        return what_fits(kind, data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def count(value: int | None) -> int:
    """Return a token count within its bounds; what is absent counts nothing."""
    if not value or value < 0:
        return 0
    return value if value < MAX_COUNT else MAX_COUNT


def word(value: str | None) -> str:
    """Return a closed word in lower case, or "" for whatever else it is."""
    return _known_word(value) if value and len(value) <= _MAX_WORD else ""


@lru_cache(_REMEMBERED)  # there are few of them
def _known_word(value: str) -> str:
    lowered = value.lower()
    return lowered if _WORD.fullmatch(lowered) else ""


def known_name(value: str | None) -> str:
    """Return the name of a model, of which there are few; "" if it is none."""
    return _known_name(value) if value and len(value) < _TOO_LONG else ""


def name(value: str | None) -> str:
    """Return an id or the name of a model; "" if it is none."""
    return value if value and _NAME.fullmatch(value) else ""


_known_name: Final = lru_cache(_REMEMBERED)(name)


def model(answered: str, asked: str) -> str:
    """Return the name of a model as the answer tells it, else as the request does; "" if neither is one."""
    return _model(answered[:_TOO_LONG], asked[:_TOO_LONG])


@lru_cache(_REMEMBERED)
def _model(answered: str, asked: str) -> str:
    # What somebody calls their own model may have spaces; what an answer says with spaces may be content.
    return name(answered) or (asked if name(asked.replace(" ", "_")) else "")
