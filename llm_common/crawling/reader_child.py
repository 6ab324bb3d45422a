"""A process that reads pages for a crawl: pages on stdin, what they say on stdout.

A page can keep a parser busy for long, or bring it down, and neither lxml nor a regular expression
can be interrupted from Python: so pages are read where that ends nobody else. The process ends with
its standard input, thus with its parent, and by a timer of the kernel's when a page takes too long.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import sys
import warnings

from ..telemetry import logger
from .extractor import EXTRACTOR, Page, packed, read_with, written
from .frames import framed, read_frame
from .pdf import MOST_SECONDS, is_pdf

MOST_MEMORY = 4 * 1024**3
"""Bytes of address space, where the system has such a limit."""

_FIRST = b"<html><title>First</title><p>Parsers load much of themselves with a <a href='/'>page."


class _Kept(logging.Handler):
    """Keeps what is logged, for the parent to log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelno, record.getMessage()))

    def take(self) -> bytes:
        taken, self.records = self.records, []
        return json.dumps(taken).encode() if taken else b""


def main(page_seconds: float) -> None:
    """Answer pages until the end of standard input; an empty frame says that it is ready.

    Args:
        page_seconds: that one page may take; a PDF has the time of `read_pdf` besides.
    """
    # What a library prints must not get between the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory()
    # What the parent ignores or blocks is inherited.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    warnings.simplefilter("ignore")
    kept = _Kept()
    logger.addHandler(kept)
    # What loads with the first page is not on that page's time.
    EXTRACTOR.read(Page("http://localhost/", "", _FIRST, "text/html"))
    gc.freeze()
    answers.write(framed(b"", b"", b""))
    answers.flush()
    while frame := read_frame(sys.stdin.buffer):
        url, media_type, body = frame
        page = Page(url.decode(), "", body, media_type.decode("utf-8", "surrogateescape"))
        seconds = page_seconds + (MOST_SECONDS if is_pdf(body) else 0)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        content = written(read_with(EXTRACTOR, page))
        stored = packed(content).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(framed(content, stored, kept.take()))
        answers.flush()


def _limit_memory() -> None:
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
