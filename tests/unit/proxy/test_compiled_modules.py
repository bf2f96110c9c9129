"""What may be compiled: mypyc drops the options of a class, and cannot compile async generators."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3] / "services/proxy"


def _compiled() -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location("compile_proxy", ROOT / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named: tuple[str, ...] = module.COMPILED
    return named


@pytest.mark.parametrize("name", _compiled())
def test_a_compiled_module_has_no_class_whose_options_would_be_lost_and_no_async_generator(name: str) -> None:
    tree = ast.parse((ROOT / f"src/tokentide_proxy/{name}.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = {base.attr if isinstance(base, ast.Attribute) else "" for base in node.bases}
            lost = bool(node.keywords or node.decorator_list) or "Struct" in bases
            assert not lost, node.name
        if isinstance(node, ast.AsyncFunctionDef):
            assert not any(isinstance(inside, ast.Yield) for inside in ast.walk(node)), node.name
