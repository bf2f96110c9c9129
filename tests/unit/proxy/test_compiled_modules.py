"""What may be compiled: mypyc drops the options of a class, and cannot compile async generators."""

from __future__ import annotations

import ast

import pytest

from infra.proxy_compiling import SCRIPT, compiling


@pytest.mark.parametrize("name", compiling().COMPILED)
def test_a_compiled_module_has_no_class_whose_options_would_be_lost_and_no_async_generator(name: str) -> None:
    tree = ast.parse((SCRIPT.parent / f"src/tokentide_proxy/{name}.py").read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = {base.attr if isinstance(base, ast.Attribute) else "" for base in node.bases}
            lost = bool(node.keywords or node.decorator_list) or "Struct" in bases
            assert not lost, node.name
        if isinstance(node, ast.AsyncFunctionDef):
            assert not any(isinstance(inside, ast.Yield) for inside in ast.walk(node)), node.name


def test_who_cannot_compile_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "install" in compiling().what_is_missing()
