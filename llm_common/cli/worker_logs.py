"""Logs of workers: one JSON object per line, with ids and no text of anybody else's."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """Writes our events with their ids; of other loggers only where they are and what they met.

    Their messages may quote a prompt, a row or a password.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"at": moment, "level": record.levelname.lower()}
        ids: dict[str, Any] | None = getattr(record, "event", None)
        if ids is None:
            ids = {
                "event": "log",
                "logger": record.name,
                "line": f"{record.module}:{record.lineno}",
            }
        if record.exc_info and record.exc_info[0]:
            ids = {**ids, "error": record.exc_info[0].__name__}
        return json.dumps({**line, **ids, "process": record.process}, default=str)


def log_as_json() -> None:
    """Write the logs of this process to stderr: ours from INFO, those of others from WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("llm_common").setLevel(logging.INFO)
