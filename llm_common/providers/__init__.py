"""The seam `Provider` and one file per wire."""

from .base import ChatRequest, Provider, Reply

__all__ = ["ChatRequest", "Provider", "Reply"]
