"""Servers from the npm registry, as their lock files pin them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.support import REPOSITORY, skip_or_fail


def installed(package: Path) -> Path:
    """Install what a folder's lock file names, once, and return where `server.mjs` can run."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        skip_or_fail(f"npm is not installed: {package.name} can't be started")
    files = [package / name for name in ("package.json", "package-lock.json", "server.mjs")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    folder = REPOSITORY / ".cache" / f"{package.name}_{digest[:12]}"
    if not (folder / "node_modules" / ".package-lock.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
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
    return folder
