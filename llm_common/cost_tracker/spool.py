"""The append-only spool: what was about to be sent and what came of it, safe from a kill.

One file per process instance and database, mode 0600, held by a lock for as long as the process
lives. It holds ledger rows only, never a prompt, a key or an answer. Whoever starts next on the
same machine replays the files whose owners are dead.

A line is a CRC-32 in hex, a space and one JSON object: a header `h`, an intent `i`, a result `r` or
a lease `l` that is about to be asked for. A torn last line is left out. A file that has grown is
left behind for a new segment, and goes when the database has everything that is in it; the first
one stays, for its lock.
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
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from ..errors import SpoolError
from ..settings import state_dir
from .models import ESTIMATED

Row = dict[str, Any]

SEGMENT_BYTES = 1024 * 1024
"""Size after which a new segment is begun."""


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


@dataclass(slots=True)
class Left:
    """What a process left behind.

    Attributes:
        boot: which boot of the machine it ran in; a file that outlived it may lack its last lines.
        rows: one per attempt: its result if there is one, else its intent (an estimate).
        leases: id and project of those that it asked for.
    """

    boot: str | None = None
    rows: list[Row] = field(default_factory=list[Row])
    leases: list[Row] = field(default_factory=list[Row])


_UNKNOWN = {"cost_source": ESTIMATED}


def left_in(data: bytes) -> Left:
    """Return what the records of a process come to."""
    left, rows = Left(), dict[Hashable, Row]()
    for record in read_records(data):
        if record["t"] in ("i", "r"):
            # As in the ledger, the first final row is the one that counts.
            if rows.get(key_of(record["row"]), _UNKNOWN)["cost_source"] == ESTIMATED:
                rows[key_of(record["row"])] = record["row"]
        elif record["t"] == "l":
            left.leases.append(record["row"])
        else:
            left.boot = record.get("boot")
    left.rows = list(rows.values())
    return left


def key_of(row: Row) -> Hashable:
    """Return what identifies a record: the attempt of a row, or the id of a lease."""
    return row.get("lease") or (row["operation_id"], row["attempt_no"])


def boot_id() -> str | None:
    """Return what tells this boot of the machine from others; None where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


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

    def __init__(self, folder: Path, instance: str | None = None) -> None:
        self.folder = folder
        self.instance = instance or str(uuid4())
        self._guard = threading.Lock()
        self._number = 0
        self._size = 0
        self._segments: dict[Hashable, set[int]] = {}
        self._kept: dict[int, int] = {}
        try:
            self._file = self._lock = self._create()
        except OSError as error:
            raise SpoolError(f"the spool folder {folder} can't be written: {error}") from error

    def _create(self) -> IO[bytes]:
        """Lock the file before it has its name, so that nobody takes it for a dead one."""
        unnamed = self.folder / f"{self.instance}.new"
        file = _open_new(unnamed)
        fcntl.flock(file, fcntl.LOCK_EX)
        header = {"t": "h", "host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id()}
        self._header = file.write(_frame(header))
        unnamed.rename(self.path)
        return file

    @property
    def path(self) -> Path:
        """The file that this process has locked."""
        return self.folder / f"{self.instance}.spool"

    def append(self, kind: str, row: Row) -> None:
        """Append an intent (`i`), a result (`r`) or a lease (`l`).

        Raises:
            SpoolError: the disk refused it.
        """
        frame = _frame({"t": kind, "row": row})
        key = key_of(row)
        with self._guard:
            try:
                if self._size > SEGMENT_BYTES:
                    self._begin_segment()
                self._write(frame)
            except OSError as error:
                raise SpoolError(f"the spool {self.path} can't be written: {error}") from error
            self._size += len(frame)
            segments = self._segments.setdefault(key, set())
            if self._number not in segments:
                segments.add(self._number)
                self._kept[self._number] = self._kept.get(self._number, 0) + 1

    def _write(self, frame: bytes) -> None:
        """Write all of a frame or nothing: a part of one would spoil the next."""
        written = self._file.write(frame)
        if written != len(frame):
            end = os.fstat(self._file.fileno()).st_size
            self._file.truncate(end - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _begin_segment(self) -> None:
        """Leave the present segment behind; one that holds nothing any more is used again."""
        if not self._kept.get(self._number):
            self._empty(self._number)
        else:
            self._file, left = _open_new(self._segment(self._number + 1)), self._file
            self._number += 1
            if left is not self._lock:
                left.close()
        self._size = 0

    def _segment(self, number: int) -> Path:
        return self.folder / f"{self.instance}.{number:06}.segment" if number else self.path

    def _empty(self, number: int) -> None:
        if number == 0:
            self._lock.truncate(self._header)
        elif number == self._number:
            self._file.truncate(0)
        else:
            self._segment(number).unlink(missing_ok=True)

    def acknowledged(self, rows: Iterable[Row]) -> None:
        """Let go of what the database has: segments that hold nothing else are removed."""
        with self._guard:
            for row in rows:
                for number in self._segments.pop(key_of(row), ()):
                    self._kept[number] -= 1
                    if not self._kept[number]:
                        del self._kept[number]
                        if number != self._number:
                            self._empty(number)

    @property
    def is_empty(self) -> bool:
        """Whether the database has everything."""
        with self._guard:
            return not self._segments

    def close(self) -> None:
        """Let the lock go; the files stay for a successor unless the database has everything."""
        with self._guard:
            if not self._segments:
                for number in range(self._number, -1, -1):
                    self._segment(number).unlink(missing_ok=True)
            self.forget()

    def forget(self) -> None:
        """Close the descriptors in a forked child: the files are its parent's."""
        self._file.close()
        self._lock.close()


def _open_new(path: Path) -> IO[bytes]:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
    return os.fdopen(os.open(path, flags, 0o600), "ab", 0)


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


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The locked files of a dead process."""

    path: Path
    left: Left

    def remove(self) -> None:
        """Remove them; the locked one last."""
        for segment in _segments_of(self.path):
            segment.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _segments_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.*.segment"))


def abandoned(folder: Path, own: Path | None) -> Iterator[Abandoned]:
    """Yield what dead processes left, each locked while it is looked at.

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
                dead = path.rename(path.with_suffix(".dead"))
                segments = [segment.read_bytes() for segment in _segments_of(dead)]
                yield Abandoned(dead, left_in(b"\n".join([file.read(), *segments])))
