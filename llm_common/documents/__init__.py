"""Reading documents: text, Markdown, HTML, bills in USLM XML, and PDF."""

from .loader import load_document
from .models import Document

__all__ = ["Document", "load_document"]
