"""Write every command's own help into `docs/cli.md`; with `--check`, compare instead.

A block of the page that follows `<!-- help: analyze -->` is what `llm-common analyze --help` says.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BLOCK = re.compile(r"<!-- help:(?P<command>[ \w]*) -->\n```text\n.*?```", re.DOTALL)

# Plain text, as wide on every machine.
os.environ |= {"TYPER_USE_RICH": "0", "COLUMNS": "100", "NO_COLOR": "1"}


def help_of(command: str) -> str:
    """Return what a command says about itself."""
    from typer.testing import CliRunner

    from llm_common.cli.app import app

    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="llm-common")
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def written(page: str) -> str:
    """Return the page with every block as it should be."""

    def block(match: re.Match[str]) -> str:
        command = match["command"].strip()
        return f"<!-- help:{match['command']} -->\n```text\n{help_of(command)}\n```"

    return BLOCK.sub(block, page)


def main() -> int:
    """Write or compare."""
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return int(page != written(page))
    PAGE.write_text(written(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
