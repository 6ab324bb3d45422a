"""Servers from the npm registry, as their lock files pin them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import REPOSITORY, skip_or_fail


def installed(package: Path) -> Path:
    """Install what a folder's lock file names, once, and return where `server.mjs` can run."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        skip_or_fail(f"npm is not installed: {package.name} can't be started")
    files = [package / name for name in ("package.json", "package-lock.json", "server.mjs")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    folder = REPOSITORY / ".cache" / f"{package.name}_{digest[:12]}"
    with _alone(folder):
        if not (folder / "node_modules" / ".package-lock.json").exists():
            _install(files, folder)
    return folder


def _install(files: list[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    result = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        skip_or_fail(f"npm ci failed: {result.stderr[-500:]}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep the other processes of the test run waiting while one installs."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
