"""A URL, a site or a PDF as text that a model can use."""

from __future__ import annotations

from .config import CrawlConfig
from .crawl import CrawlSummary, crawl, resume, stored_pages, summary_of
from .extract import extract
from .extractor import Extractor
from .models import Fetched, Fetcher, Link, PageContent, Reason, fault_of
from .pdf import read_pdf
from .reading import read_page
from .turns import Crawl, CrawledPage
from .urls import TRACKING, normalize_url

__all__ = [
    "TRACKING",
    "Crawl",
    "CrawlConfig",
    "CrawlSummary",
    "CrawledPage",
    "Extractor",
    "Fetched",
    "Fetcher",
    "Link",
    "PageContent",
    "Reason",
    "crawl",
    "extract",
    "fault_of",
    "normalize_url",
    "read_page",
    "read_pdf",
    "resume",
    "stored_pages",
    "summary_of",
]
