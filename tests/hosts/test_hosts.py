"""What a host gets: submodule and plain pip, Poetry, a wheel, a fresh clone. `make test-hosts`."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

from tests.hosts.conftest import Interpreter, run

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(1800)]

CALL = Path(__file__).parent / "call.py"
PIPS_INDEX = """
from pip._internal.commands import create_command
print(create_command("install").parse_args([])[0].index_url.rstrip("/") + "/")
"""


def call(python: Interpreter, database: str, cwd: Path, **extra: str) -> None:
    """Migrate, call once, and see that it was paid for."""
    llm_common = python.program("llm-common")
    run(llm_common, "migrate", "up", "--database", database, cwd=cwd, **extra)
    with python.provider_server(cwd) as variables:
        said = run(python.program("python"), CALL, database, cwd=cwd, **variables, **extra)
    assert "A host asks this." in said
    assert re.search(r"cost 0\.0*[1-9]\d*, unpriced 0", said), said


def test_plain_pip(host: Path, place: Path) -> None:
    python = Interpreter.make(place / "venv")
    python.pip_install("-e", "packages/llm-common[embedded]", cwd=host)
    call(python, "embedded", host, LLM_COMMON_STATE_DIR=str(place / "state"))


def test_poetry(host: Path, place: Path, database_url: str) -> None:
    tools = Interpreter.make(place / "tools")
    tools.pip_install("poetry>=2,<3", cwd=host)
    poetry = tools.program("poetry")
    inside = {"POETRY_VIRTUALENVS_IN_PROJECT": "true"}
    run(poetry, "init", "--no-interaction", "--name=host", "--python=>=3.11,<4.0", cwd=host)
    # Poetry does not read pip's configuration; the machine may have an index of its own.
    index = run(tools.program("python"), "-c", PIPS_INDEX, cwd=host).strip()
    run(poetry, "source", "add", "--priority=primary", "machine", index, cwd=host)
    run(poetry, "add", "--editable", "./packages/llm-common", cwd=host, **inside)
    call(Interpreter(host / ".venv"), database_url, host)


def test_a_wheel_holds_everything(origin: Path, place: Path, database_url: str) -> None:
    run("git", "clone", "--quiet", origin, "clone", cwd=place)
    build = ("-m", "hatchling", "build", "-t", "wheel", "-d", str(place))
    run(sys.executable, *build, cwd=place / "clone")
    (wheel,) = place.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, patterns in {
        "llm_common": ("*.py", "py.typed", "data/*.toml", "data/demo/*", "prompts/*.md"),
        "migrations": ("*.sql", "rollback/*.sql"),
    }.items():
        root = place / "clone" / folder
        inside = "llm_common/_migrations" if folder == "migrations" else folder
        files = {f"{inside}/{p.relative_to(root)}" for pat in patterns for p in root.rglob(pat)}
        assert files
        assert files <= names
    # The packages are those of this environment: `--target` stands before them on the path.
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place / "site"))
    run(sys.executable, *pip, str(wheel), cwd=place)
    status = run(
        sys.executable,
        place / "site" / "bin" / "llm-common",
        *("migrate", "status", "--database", database_url, "--json"),
        cwd=place,
        PYTHONPATH=str(place / "site"),
    )
    assert status.count('"applied"') == len(list((place / "clone/migrations").glob("*.sql")))


def test_a_stranger_runs_the_demonstration(origin: Path, place: Path) -> None:
    run("git", "clone", "--quiet", origin, "clone", cwd=place)
    clone, plain = place / "clone", {"LLM_COMMON_STATE_DIR": "", "PYTHON": sys.executable}
    first = run("make", "demo", cwd=clone, **plain)
    assert "✓ “" in first
    assert re.search(r"charged \$0\.\d*[1-9]", first)
    again = run("make", "demo", cwd=clone, **plain)
    assert "charged $0.00 " in again
    for said in (first, again):
        (shown,) = re.findall(r"The stored run: +(.*)", said)
        assert "completed" in run("sh", "-c", shown, cwd=clone, **plain)
