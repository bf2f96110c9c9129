"""What a proxy has observed of an answer, made and compared by what it says."""

from __future__ import annotations

from typing import Any, Final

from tokentide_proxy.observed import Observed

# By what the class has, since a compiled one has no annotations.
_NAMES: Final = [name for name in dir(Observed) if not name.startswith("_")]


def observed_of(**said: Any) -> Observed:
    """Return an observation that says this and no more."""
    observed = Observed()
    for name, value in said.items():
        assert name in _NAMES, name
        setattr(observed, name, value)
    return observed


def told(observed: Observed) -> dict[str, Any]:
    """Return all that an observation says: what it has nothing to say of is left out."""
    said = {name: getattr(observed, name) for name in _NAMES}
    return {name: value for name, value in said.items() if value}
