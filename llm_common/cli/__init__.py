"""The command `llm-common`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; an error of ours is one line on stderr and exit code 2."""
    from ..errors import LLMCommonError
    from .app import app

    try:
        app(prog_name="llm-common")
    except LLMCommonError as error:
        sys.stderr.write(f"llm-common: {error}\n")
        sys.exit(2)
