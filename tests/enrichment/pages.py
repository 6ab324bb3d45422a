"""Pages as a crawler gives them, from HTML that a test writes."""

from __future__ import annotations

from typing import Any

from llm_common.crawling import extract
from llm_common.enrichment.entities import entity_lines
from llm_common.enrichment.fetching import page_of

URL = "https://pages.example/people"


def page(body: str, title: str = "", url: str = URL, **more: Any) -> dict[str, Any]:
    """Return the page that a body makes."""
    html = f"<html><head><title>{title}</title></head><body>{body}</body></html>"
    return {**page_of(url, extract(html, url), entity_lines(html.encode())), **more}


def lines(*texts: str, title: str = "", url: str = URL, **more: Any) -> dict[str, Any]:
    """Return a page of one paragraph for each text."""
    return page("".join(f"<p>{text}</p>" for text in texts), title, url, **more)


def table(rows: list[tuple[str, ...]]) -> str:
    """Return a table."""
    cells = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
