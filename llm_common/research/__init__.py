"""Pages and searches turned into typed answers with their evidence."""

from __future__ import annotations

from .structured import Cell, Structured, extract_structured

__all__ = ["Cell", "Structured", "extract_structured"]
