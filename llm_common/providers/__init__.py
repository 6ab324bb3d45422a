"""The seam `Provider` and one file per wire."""

from .base import ChatRequest, Provider, Reply
from .failures import fault
from .litellm_wire import warm
from .select import aclose, provider_for
from .streams import deltas_of
from .transcript import Transcript

__all__ = [
    "ChatRequest",
    "Provider",
    "Reply",
    "Transcript",
    "aclose",
    "deltas_of",
    "fault",
    "provider_for",
    "warm",
]
