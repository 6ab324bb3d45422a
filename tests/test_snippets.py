"""Every Python block of the README and the documentation runs; every command in them exists.

The blocks of a page run in order and share their names, as a reader would try them in
`python -m asyncio`, awaiting at the top level. A block that calls `asyncio.run` is a program and
runs as one; a block that begins with the name of a test file is a file, run by pytest.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from llm_common import errors
from llm_common.cli.app import app
from llm_common.testing import ProviderServer
from tests.postgrest import SupabaseLite
from tests.support import REPOSITORY

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "MIGRATION.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
SUPABASE_PAGE = "docs/supabase.md"
BILL = REPOSITORY / "llm_common" / "data" / "demo" / "bill.md"
PYTEST_INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# (?P<name>conftest\.py|test_\w+\.py)\n")
COMMAND = re.compile(r"llm-common( [^`|\n#]*)?")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where its code begins."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def is_program(self) -> bool:
        """Whether it is complete: it starts its own event loop."""
        return "asyncio.run(" in self.code

    @property
    def file_name(self) -> str | None:
        """The name of the file that the block is, if it is one."""
        named = FILE_NAME.match(self.code)
        return named["name"] if named else None


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page that are written in one of these languages."""
    text = page.read_text(encoding="utf-8")
    found = FENCE.finditer(text)
    every = (
        Block(page, text[: m.start()].count("\n") + 2, m["language"], m["code"]) for m in found
    )
    return [block for block in every if block.language in languages]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def with_python() -> list[Path]:
    return [p for p in PAGES if blocks(p, "python") and name_of(p) != SUPABASE_PAGE]


async def run(block: Block, namespace: dict[str, Any]) -> None:
    """Run a block; a traceback names the line of the page."""
    source = "\n" * (block.line - 1) + block.code
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, str(block.page), "exec", flags=flags, dont_inherit=True)
    # A coroutine if the block awaits; else it has run.
    running = eval(code, namespace)
    if running is not None:
        await running


async def run_process(folder: Path, *arguments: str | Path) -> str:
    """Run Python in the reader's folder and return what it printed; it must not complain."""
    command = [sys.executable, *arguments]
    run = partial(subprocess.run, command, cwd=folder, capture_output=True, text=True)
    ended = await asyncio.to_thread(run)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


async def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """Run the blocks of a page, close what they leave open, then run its test files.

    Returns the names that the page has given.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    every = blocks(page, "python")
    try:
        for block in every:
            if block.is_program:
                assert await run_process(folder, "-c", block.code)
            elif not block.file_name:
                await run(block, namespace)
    finally:
        for value in namespace.values():
            if inspect.iscoroutinefunction(getattr(type(value), "aclose", None)):
                await value.aclose()
    for block in every:
        if block.file_name:
            (folder / block.file_name).write_text(block.code)
    if any(folder.glob("test_*.py")):
        (folder / "pytest.ini").write_text(PYTEST_INI)
        said = await run_process(folder, "-m", "pytest", "-q", folder)
        assert " passed" in said
    return namespace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, with the file that the pages speak of."""
    (tmp_path / "bill.md").write_bytes(BILL.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", with_python(), ids=name_of)
async def test_the_python_of_a_page_runs(
    page: Path,
    fake: ProviderServer,
    database_url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    await run_page(page, folder)


async def test_the_python_for_supabase_runs(
    supabase_lite: SupabaseLite,
    fake: ProviderServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SUPABASE_URL", supabase_lite.url)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", supabase_lite.secret_key)
    names = await run_page(REPOSITORY / SUPABASE_PAGE, folder)
    names["supabase"].postgrest.session.close()


def commands() -> Iterator[tuple[str, str]]:
    """Yield each mention of our command, in shell blocks and between back-ticks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`(llm-common [^`]+)`", FENCE.sub("", text))
        shell = "\n".join(block.code for block in blocks(page, "sh"))
        for found in (*inline, *(m[0] for m in COMMAND.finditer(shell))):
            yield name_of(page), " ".join(found.split())


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_exists_with_its_options(page: str, line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(re.sub(r"(\w+)(?: \| \w+)+", r"\1", line))[1:]
    while words and (below := getattr(command, "commands", {}).get(words[0])):
        command, words = below, words[1:]
    if words and (default := getattr(command, "default", None)):
        command = command.commands[default]
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= known
    names_another = bool(words) and not words[0].startswith("-")
    assert not (names_another and hasattr(command, "commands")), f"no command {words[0]}"


def test_the_help_texts_are_the_commands_own() -> None:
    """After a change: `make help`."""
    check = [sys.executable, REPOSITORY / "scripts" / "cli_help.py", "--check"]
    assert subprocess.run(check, check=False).returncode == 0, "docs/cli.md: run make help"


def test_every_command_has_its_help_on_the_page() -> None:
    def names(command: Any, above: str = "") -> Iterator[str]:
        for name, below in getattr(command, "commands", {}).items():
            yield above + name
            yield from names(below, f"{above}{name} ")

    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert set(names(typer.main.get_command(app))) == set(re.findall(r"<!-- help: (.+) -->", page))


def test_the_tree_of_errors_is_the_library_s_own() -> None:
    (tree,) = blocks(REPOSITORY / "docs" / "reference" / "errors.md", "text")
    assert tree.code.strip() in str(errors.__doc__)
