"""A host's machine: folders, interpreters and repositories of its own. What is tested is HEAD."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import REPOSITORY, skip_or_fail

NOT_OF_A_HOST = ("VIRTUAL_ENV", "PYTHONPATH", "LLM_COMMON_PROJECT")


def environment() -> dict[str, str]:
    """Return this process's variables without those of its own installation."""
    return {k: v for k, v in os.environ.items() if k not in NOT_OF_A_HOST and k[:4] != "COV_"}


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    """Run a command in a host's folder and return its output; a failure shows all of it."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=environment() | extra,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}"
    return ended.stdout


@dataclass(frozen=True)
class Interpreter:
    """A virtual environment."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Interpreter:
        """Make one with this Python, without uv."""
        run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        return cls(folder)

    def program(self, name: str) -> Path:
        """Return the path of one of its programs."""
        return self.folder / "bin" / name

    def pip_install(self, *requirements: str, cwd: Path) -> None:
        """Install as a host does, by the pip configuration of the machine."""
        run(self.program("python"), "-m", "pip", "install", "--quiet", *requirements, cwd=cwd)

    @contextmanager
    def provider_server(self, cwd: Path) -> Iterator[Mapping[str, str]]:
        """Run the provider server of the installed package; lend the variables that lead there."""
        process = subprocess.Popen(
            [self.program("python"), "-m", "llm_common.testing"],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["environment"]
        finally:
            process.communicate(timeout=120)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path: sockets of a Postgres have to fit."""
    with tempfile.TemporaryDirectory(prefix="host_") as name:
        yield Path(name).resolve()


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare clone of this repository, as a host's remote."""
    if not (REPOSITORY / ".git").exists():
        skip_or_fail("this is no clone: a host's submodule can't be tested")
    bare = tmp_path_factory.mktemp("origin") / "llm-common.git"
    run("git", "clone", "--quiet", "--bare", REPOSITORY, bare, cwd=bare.parent)
    return bare


@pytest.fixture
def host(place: Path, origin: Path) -> Path:
    """A host's repository with the library as a submodule."""
    folder = place / "host"
    folder.mkdir()
    run("git", "init", "--quiet", cwd=folder)
    add = ("submodule", "--quiet", "add", str(origin), "packages/llm-common")
    run("git", "-c", "protocol.file.allow=always", *add, cwd=folder)
    return folder
