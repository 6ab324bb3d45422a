"""The seam `Provider` and one file per wire."""

from .base import ChatRequest, EmbedRequest, Provider, Reply, Vectors
from .embedding_format import embed_fault
from .failures import fault
from .litellm_wire import warm
from .select import aclose, provider_for
from .streams import deltas_of
from .transcript import Transcript

__all__ = [
    "ChatRequest",
    "EmbedRequest",
    "Provider",
    "Reply",
    "Transcript",
    "Vectors",
    "aclose",
    "deltas_of",
    "embed_fault",
    "fault",
    "provider_for",
    "warm",
]
