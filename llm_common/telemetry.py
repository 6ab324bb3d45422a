"""One place for logging and spans; silent until a host listens.

Logs carry ids only: no key, prompt, answer or provider error text.
"""

from __future__ import annotations

import logging

logger = logging.getLogger("llm_common")
logger.addHandler(logging.NullHandler())


def event(name: str, *, level: int = logging.INFO, **ids: object) -> None:
    """Log a named event with its ids, as ``name key=value …``."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s %s", name, " ".join(f"{k}={v}" for k, v in ids.items()))
