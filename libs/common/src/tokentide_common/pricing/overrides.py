"""Dated price rules for what genai-prices lacks: read once from TOML, checked, merged by name."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from tokentide_common.pricing.rates import ALWAYS, UnitRates

ContextKey = Literal["service_tier", "speed", "inference_geo"]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]

_MTOK: Final = Decimal(1_000_000)
_PER_THOUSAND: Final = Decimal(1_000)
# 18 digits hold any real price; more would be a float that lost its way.
_MAX_DIGITS: Final = 18


class InvalidOverrides(ValueError):
    """An override file cannot be used; the message names the file and what is wrong in it."""


class RuleRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD per million tokens (searches: per thousand). What is left out costs what contains it."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    web_search: Decimal = Decimal(0)
    above: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if name != "above":
                _check_amount(name, getattr(self, name))

    def per_unit(self) -> UnitRates:
        """Return USD for one token of each kind."""

        def token(*rates: Decimal | None) -> Decimal:
            return next(rate for rate in rates if rate is not None) / _MTOK

        return UnitRates(
            input=token(self.input),
            cache_read=token(self.cache_read, self.input),
            cache_write_5m=token(self.cache_write_5m, self.input),
            cache_write_1h=token(self.cache_write_1h, self.cache_write_5m, self.input),
            output=token(self.output),
            reasoning=token(self.reasoning, self.output),
            web_search=self.web_search / _PER_THOUSAND,
            request=Decimal(0),
        )


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One statement about prices: where it holds, from when to when, and exactly one effect."""

    name: Word
    source: Word
    """Where the fact comes from, for whoever checks it later."""
    models: Annotated[tuple[Word, ...], msgspec.Meta(min_length=1)]
    """Globs (`*`, `?`) on the model id, as the source or as the price list spells it."""
    provider: Word = "*"
    since: date | None = msgspec.field(default=None, name="from")
    """First UTC day."""
    until: date | None = None
    """First UTC day on which the rule no longer holds."""
    when: dict[ContextKey, str] = {}
    factor: Decimal | None = None
    rates: tuple[RuleRates, ...] = ()
    unpriced: bool = False

    def __post_init__(self) -> None:
        if (self.factor is not None) + bool(self.rates) + self.unpriced != 1:
            raise ValueError("a rule has exactly one of factor, rates, unpriced = true")
        _check_amount("factor", self.factor)
        if self.since and self.until and self.since >= self.until:
            raise ValueError("from must be before until")
        steps = [ALWAYS if step.above is None else step.above for step in self.rates]
        if steps and (steps[0] != ALWAYS or steps != sorted(set(steps))):
            raise ValueError("the first of rates has no `above`, the others have ascending ones")

    def concerns(self, provider_id: str, spellings: Sequence[str], context: Mapping[str, str]) -> bool:
        """Tell whether the rule speaks about such calls at all, on whatever day."""
        return (
            fnmatchcase(provider_id, self.provider)
            and all(context.get(key) == value for key, value in self.when.items())
            and any(fnmatchcase(name, pattern) for name in spellings for pattern in self.models)
        )

    def holds_on(self, day: date) -> bool:
        """Tell whether the rule holds on this UTC day."""
        return (self.since is None or day >= self.since) and (self.until is None or day < self.until)

    def steps(self) -> list[tuple[int, UnitRates]]:
        """Return the rule's own rates as `(total input above which they hold, rates)`."""
        return [(ALWAYS if step.above is None else step.above, step.per_unit()) for step in self.rates]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: list[Rule] = []


class Overrides(msgspec.Struct, frozen=True):
    """The rules in force and a digest of the text they came from."""

    rules: tuple[Rule, ...]
    version: str


def load_overrides(path: str | None = None) -> Overrides:
    """Read the shipped rules and, on top, the user's: a rule of the same name replaces the shipped one.

    Raises `InvalidOverrides`.
    """
    shipped = (files(__package__) / "overrides.toml").read_bytes()
    merged = {rule.name: rule for rule in parse_rules(shipped, "overrides.toml")}
    own = b""
    if path:
        try:
            own = Path(path).read_bytes()
        except OSError as exc:
            raise InvalidOverrides(f"{path}: {exc.strerror}") from None
        for rule in parse_rules(own, path):
            merged.pop(rule.name, None)
            merged[rule.name] = rule
    digest = hashlib.sha256(shipped + b"\x00" + own).hexdigest()[:8]
    return Overrides(tuple(merged.values()), f"overrides {digest}")


def parse_rules(text: bytes, origin: str) -> list[Rule]:
    """Read and check the rules of one file; raises `InvalidOverrides`."""
    try:
        raw: dict[str, Any] = tomllib.loads(text.decode(), parse_float=Decimal)
        rules = msgspec.convert(raw, _File).rule
    except (ValueError, msgspec.ValidationError) as exc:
        raise InvalidOverrides(f"{origin}: {exc}") from None
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidOverrides(f"{origin}: rule names used twice: {', '.join(twice)}")
    return rules


def _check_amount(name: str, amount: Decimal | None) -> None:
    if amount is None:
        return
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{name} must be a finite amount, zero or more")
    if len(amount.as_tuple().digits) > _MAX_DIGITS:
        raise ValueError(f"{name} has more than {_MAX_DIGITS} digits")
