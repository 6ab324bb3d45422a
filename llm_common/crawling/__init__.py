"""A URL, a site or a PDF as text that a model can use."""

from __future__ import annotations

from .extract import extract
from .models import Fault, Fetched, Fetcher, Link, PageContent, Reason, fault_of
from .pdf import read_pdf
from .reading import read_page

__all__ = [
    "Fault",
    "Fetched",
    "Fetcher",
    "Link",
    "PageContent",
    "Reason",
    "extract",
    "fault_of",
    "read_page",
    "read_pdf",
]
