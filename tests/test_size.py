"""Files, functions and constructors stay small; what does not is listed here, with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "llm_common"
FILES = sorted(PACKAGE.rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 40
CONSTRUCTOR_PARAMETERS = 7

EXCEPTIONS: dict[str, str] = {}
"""`path` or `path Class.function` -> why it may be larger."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield every function with its dotted name, nested ones too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
        inner = prefix + node.name + "." if isinstance(node, Function | ast.ClassDef) else prefix
        yield from functions(node, inner)


def parameters(function: Function) -> int:
    """Count the parameters but self; `*args` and `**where` count one each."""
    a = function.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs]
    return len(named) - 1 + (a.vararg is not None) + (a.kwarg is not None)


def lines(function: Function) -> int:
    """Count the lines from `def` to the end; the docstring may be as long as it must."""
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        described = function.body[0]
        count -= described.end_lineno - described.lineno + 1
    return count


def too_large(path: Path, root: Path = PACKAGE) -> Iterator[tuple[str, str]]:
    """Yield the name of all that is over its limit, and by how much."""
    source = path.read_text(encoding="utf-8")
    where = path.relative_to(root).as_posix()
    if (count := len(source.splitlines())) > FILE_LINES:
        yield where, f"{count} lines, {FILE_LINES} are the limit"
    for name, function in functions(ast.parse(source)):
        if (count := lines(function)) > FUNCTION_LINES:
            yield f"{where} {name}", f"{count} lines, {FUNCTION_LINES} are the limit"
        is_constructor = function.name == "__init__"
        if is_constructor and (count := parameters(function)) > CONSTRUCTOR_PARAMETERS:
            yield f"{where} {name}", f"{count} parameters, {CONSTRUCTOR_PARAMETERS} are the limit"


def test_nothing_is_larger_than_its_limit() -> None:
    large = dict(found for path in FILES for found in too_large(path))
    assert {name: why for name, why in large.items() if name not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() <= large.keys(), "no longer needed"


def test_a_transgression_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "large.py"
    long = "async def long():\n" + "    pass\n" * FUNCTION_LINES
    crowded = "class Crowded:\n    def __init__(self, a, b, *, c, d, e, f, g, **where): ...\n"
    path.write_text(long + crowded + "x = 1\n" * FILE_LINES)
    assert [name for name, _ in too_large(path, tmp_path)] == [
        "large.py",
        "large.py long",
        "large.py Crowded.__init__",
    ]


def test_what_is_at_its_limit_passes(tmp_path: Path) -> None:
    path = tmp_path / "fitting.py"
    body = '    """Say."""\n' + "    pass\n" * (FUNCTION_LINES - 1)
    fitting = "class Fitting:\n    def __init__(self, a, b, *, c, d, e, f, **where): ...\n"
    filling = "x = 1\n" * (FILE_LINES - FUNCTION_LINES - 3)
    path.write_text("def fitting():\n" + body + fitting + filling)
    assert len(path.read_text().splitlines()) == FILE_LINES
    assert list(too_large(path, tmp_path)) == []
