"""Counts the lines of code that a host keeps, before the migration and after it.

`python examples/host_lines.py` prints a table. Counted are lines that hold code: no blank lines, no
comments, no docstrings.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

HERE = Path(__file__).parent

HOSTS = {
    "affordabot": (
        ["backend/services/llm/pipeline.py", "backend/services/research/zai.py"],
        ["backend/services/llm/orchestrator.py"],
        ["backend/services/llm/choice.py"],
    ),
    "prime_radiant": (
        ["backend/llm/client.py"],
        ["backend/services/assistant.py"],
        ["backend/services/choice.py"],
    ),
}
"""Host -> files of the old code, of the new, and of the choice between them."""

NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def code_lines(source: str) -> int:
    """Count the lines of a source that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(source)))


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the lines that docstrings stand on."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def count(host: str) -> tuple[int, int, int]:
    """Return the lines of a host's old code, its new code, and the choice between them."""
    old, new, choice = (
        sum(code_lines((HERE / host / name).read_text(encoding="utf-8")) for name in names)
        for names in HOSTS[host]
    )
    return old, new, choice


def row(host: str) -> str:
    """Return the line of the table that is about a host."""
    old, new, choice = count(host)
    return f"| {host} | {old} | {new} | {choice} | {1 - new / old:.0%} |".replace("%", " %")


def main() -> None:
    """Print the table, as Markdown."""
    heading = "| host | old | new | choice, for a while | less |\n| --- | --- | --- | --- | --- |"
    sys.stdout.write("\n".join([heading, *map(row, HOSTS), ""]))


if __name__ == "__main__":
    main()
