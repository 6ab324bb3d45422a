"""The seam `Provider` and one file per wire."""

from .base import ChatRequest, Provider, Reply
from .failures import fault
from .litellm_wire import warm
from .select import aclose, provider_for

__all__ = ["ChatRequest", "Provider", "Reply", "aclose", "fault", "provider_for", "warm"]
