"""The script that compiles the proxy, as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "services/proxy/compile.py"


def compiling() -> ModuleType:
    """Return it; nothing is compiled by that."""
    spec = importlib.util.spec_from_file_location("proxy_compile", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
