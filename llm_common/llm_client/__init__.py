"""`LLMClient` and what goes with a call to a model."""

from .client import CallOptions, LLMClient

__all__ = ["CallOptions", "LLMClient"]
