"""Rate limits, cooldowns and circuits: of this process, and shared by all of a project."""

from .admission import Entry, Ticket, admit, down, limited
from .gate import Gate, cooldown_s, forget, gate
from .shared import Shared, shared_for

__all__ = [
    "Entry",
    "Gate",
    "Shared",
    "Ticket",
    "admit",
    "cooldown_s",
    "down",
    "forget",
    "gate",
    "limited",
    "shared_for",
]
