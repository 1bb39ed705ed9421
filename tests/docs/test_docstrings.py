"""Every module says its purpose in a line, every public function and class what it promises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.readme import CHECKOUT

APP = CHECKOUT / "app"
MODULES = sorted(path for path in APP.rglob("*.py") if "migrations/versions" not in path.as_posix())
LONGEST = 100


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_and_what_is_public_in_it_explain_themselves(path: Path) -> None:
    tree = ast.parse(path.read_text())
    purpose = (ast.get_docstring(tree) or "").split("\n")[0]

    assert purpose.endswith((".", "?", "`.")), f"purpose: {purpose!r}"
    assert len(purpose) <= LONGEST
    assert [node.name for node in _public(tree) if not _explains_itself(node)] == []


Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _public(tree: ast.Module) -> Iterator[Named]:
    for node in tree.body:
        if isinstance(node, Named) and not node.name.startswith("_"):
            yield node


def _explains_itself(node: Named) -> bool:
    """An endpoint carries its sentence as the title its callers read."""
    titles = (
        keyword.value.value
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
        if keyword.arg == "title" and isinstance(keyword.value, ast.Constant)
    )
    return bool(ast.get_docstring(node) or any(titles))
