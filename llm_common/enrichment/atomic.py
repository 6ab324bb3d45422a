"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Lend a temporary path beside a file, which takes the file's place if the block ends well.

    A process that is killed leaves the file as it was, and beside it a file whose name begins
    with ``.`` and ends in ``.tmp``.
    """
    target = path.resolve()
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
