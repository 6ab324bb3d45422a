"""The append-only spool: what was about to be sent and what came of it, safe from a kill.

One file per process instance and database, mode 0600, held by a lock for as long as the process
lives. It holds ledger rows only, never a prompt, a key or an answer. Whoever starts next on the
same machine replays the files whose owners are dead.

A line is a CRC-32 in hex, a space and one JSON object: a header `h`, an intent `i` or a result
`r`. A torn last line is left out.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from ..errors import SpoolError
from ..settings import state_dir

Row = dict[str, Any]

TRUNCATE_ABOVE = 256 * 1024
"""Bytes after which a file in which everything is acknowledged is emptied."""


def folder_for(identity: str) -> Path:
    """Return the folder that holds the spools of one database; made if absent, mode 0700.

    Raises:
        SpoolError: it can't be made.
    """
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    try:
        path = state_dir() / "spool" / digest
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolError(
            f"the spool folder can't be made ({error}): set LLM_COMMON_STATE_DIR to one that can"
        ) from error
    return path


def _frame(record: Row) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def read_records(data: bytes) -> Iterator[Row]:
    """Yield the intact records of a spool file."""
    for line in data.split(b"\n"):
        crc, _, body = line.partition(b" ")
        if len(crc) == 8 and body and crc == b"%08x" % zlib.crc32(body):
            yield json.loads(body)


def unsettled(data: bytes) -> list[Row]:
    """Return one row per attempt: its result if there is one, else its intent (an estimate)."""
    rows: dict[tuple[str, int], Row] = {}
    for record in read_records(data):
        if record["t"] in ("i", "r"):
            row = record["row"]
            rows[row["operation_id"], row["attempt_no"]] = row
    return list(rows.values())


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Spool:
    """The spool of this process for one database.

    `instance` names the process to others: its lock tells whether it lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance = str(uuid4())
        self._guard = threading.Lock()
        self._size = 0
        try:
            self._file = self._create()
        except OSError as error:
            raise SpoolError(f"the spool folder {folder} can't be written: {error}") from error

    def _create(self) -> IO[bytes]:
        """Lock the file before it has its name, so that nobody takes it for a dead one."""
        unnamed = self.folder / f"{self.instance}.new"
        file = os.fdopen(
            os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600), "ab", 0
        )
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(_frame({"t": "h", "host": socket.gethostname(), "pid": os.getpid()}))
        unnamed.rename(self.path)
        return file

    @property
    def path(self) -> Path:
        """The file of this process."""
        return self.folder / f"{self.instance}.spool"

    def append(self, kind: str, row: Row) -> None:
        """Append an intent (`i`) or a result (`r`).

        Raises:
            SpoolError: the disk refused it.
        """
        frame = _frame({"t": kind, "row": row})
        with self._guard:
            try:
                self._write(frame)
            except OSError as error:
                raise SpoolError(f"the spool {self.path} can't be written: {error}") from error
            self._size += len(frame)

    def _write(self, frame: bytes) -> None:
        """Write all of a frame or nothing: a part of one would spoil the next."""
        written = self._file.write(frame)
        if written != len(frame):
            end = os.fstat(self._file.fileno()).st_size
            self._file.truncate(end - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def acknowledged(self) -> None:
        """Empty the file, once everything in it is in the database and it has grown."""
        with self._guard:
            if self._size > TRUNCATE_ABOVE:
                self._file.truncate(0)
                self._size = 0

    def close(self, *, everything_acknowledged: bool) -> None:
        """Let the lock go; the file stays for a successor unless all of it is acknowledged."""
        with self._guard:
            if everything_acknowledged:
                self.path.unlink(missing_ok=True)
            self._file.close()

    def forget(self) -> None:
        """Close the descriptor in a forked child: the file is its parent's."""
        self._file.close()


def is_alive(folder: Path, instance: str) -> bool:
    """Tell whether the process instance that owns a spool of this folder still runs."""
    try:
        with (folder / f"{instance}.spool").open("rb") as file:
            if not _try_lock(file):
                return True
            fcntl.flock(file, fcntl.LOCK_UN)
            return False
    except FileNotFoundError:
        return False


def abandoned(folder: Path, own: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield the locked, open files of dead processes; the caller unlinks what it has replayed.

    Such a file is renamed first: its lock is now the replayer's and says nothing of its owner.
    """
    for path in sorted(folder.glob("*.spool")) + sorted(folder.glob("*.dead")):
        if path == own:
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            # Another starter may have replayed and unlinked it between our open and our lock.
            if _try_lock(file) and path.exists():
                yield path.rename(path.with_suffix(".dead")), file
