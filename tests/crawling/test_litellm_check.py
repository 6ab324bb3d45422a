"""A litellm that another package wrote over is seen, in an environment made for it."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

from llm_common.crawling.litellm_check import cure, overwritten

FILES = {"litellm/__init__.py": "x = 1\n", "litellm/main.py": "y = 2\n"}


def install(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Write a distribution as an installer does, with the hashes of its files."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    rows: list[str] = []
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        rows.append(f"{path},sha256={digest.rstrip('=')},{len(text)}")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("\n".join(rows))


def judged(folder: Path) -> str:
    """Return what the check says in an interpreter that sees this folder first."""
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from llm_common.crawling.litellm_check import refuse_overwritten\n"
        "from llm_common.errors import ConfigurationError\n"
        "try:\n    refuse_overwritten(); print('fine')\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_this_environment_is_fine() -> None:
    assert not overwritten()


def test_an_untouched_litellm_is_fine(tmp_path: Path) -> None:
    install(tmp_path, "litellm", "1.2.3", FILES)
    assert judged(tmp_path) == "fine"


def test_an_overwritten_litellm_is_refused_with_the_cure(tmp_path: Path) -> None:
    install(tmp_path, "litellm", "1.2.3", FILES)
    install(tmp_path, "unclecode-litellm", "1.0.0", {**FILES, "litellm/main.py": "y = 'fork'\n"})
    said = judged(tmp_path)
    assert "unclecode-litellm" in said
    assert "pip install --force-reinstall --no-deps litellm==1.2.3" in said
    assert said.startswith(cure()[:30])


def test_a_mended_litellm_is_fine_though_the_fork_is_still_listed(tmp_path: Path) -> None:
    install(tmp_path, "unclecode-litellm", "1.0.0", {"litellm/main.py": "y = 'fork'\n"})
    install(tmp_path, "litellm", "1.2.3", FILES)
    assert judged(tmp_path) == "fine"


def test_the_files_that_are_looked_at_are_litellm_s() -> None:
    from importlib.metadata import files

    from llm_common.crawling.litellm_check import SAMPLE

    assert set(SAMPLE) <= {str(file) for file in files("litellm") or ()}
