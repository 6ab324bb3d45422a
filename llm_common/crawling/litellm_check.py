"""Is the litellm that would be imported the one that its metadata names?

crawl4ai 0.9 depends on ``unclecode-litellm``, an older litellm that installs into the same folder;
neither pip nor its metadata notice.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata

from ..errors import ConfigurationError

FORK = "unclecode-litellm"
SAMPLE = ("litellm/__init__.py", "litellm/main.py", "litellm/router.py", "litellm/_version.py")


def overwritten() -> bool:
    """Tell whether files of litellm are not those that its distribution brought."""
    try:
        litellm = metadata.distribution("litellm")
    except metadata.PackageNotFoundError:
        return _installed(FORK)
    files = {str(file): file for file in litellm.files or ()}
    for name in SAMPLE:
        file = files.get(name)
        if file is None or file.hash is None:
            continue
        path = file.locate()
        raw = path.read_bytes() if path.is_file() else b""  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
        if _digest(file.hash.mode, raw) != file.hash.value:  # pyright: ignore[reportUnknownArgumentType]
            return True
    return False


def refuse_overwritten() -> None:
    """Refuse to work with a litellm whose files another package has replaced.

    Raises:
        ConfigurationError: with the commands that mend it.
    """
    if overwritten():
        raise ConfigurationError(cure())


def cure() -> str:
    """Say what is wrong and what mends it."""
    wanted = f"litellm=={_version()}" if _version() else "litellm"
    return (
        f"litellm's files were replaced by {FORK}, which crawl4ai asks for: run "
        f"`pip uninstall -y {FORK}` and `pip install --force-reinstall --no-deps {wanted}`"
    )


def _version() -> str:
    return metadata.version("litellm") if _installed("litellm") else ""


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _digest(mode: str, raw: bytes) -> str:
    """Hash as a RECORD file does: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.new(mode, raw).digest()).decode().rstrip("=")
