"""`LLMClient` and what goes with a call to a model."""

from .client import LLMClient
from .options import CallOptions
from .streaming import ChatStream

__all__ = ["CallOptions", "ChatStream", "LLMClient"]
