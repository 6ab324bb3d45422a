"""The searches of Z.ai and Serper, as their public references describe them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from .corpus import Hit, Query

Body = Mapping[str, Any]

ZAI_DAYS = {"oneDay": 1, "oneWeek": 7, "oneMonth": 31, "oneYear": 366}
SERPER_DAYS = {"qdr:d": 1, "qdr:w": 7, "qdr:m": 31, "qdr:y": 366}


def read_zai(body: Body) -> Query:
    """Read a request to Z.ai's web search."""
    return Query(
        text=body["search_query"],
        count=body.get("count", 10),
        domain=body.get("search_domain_filter"),
        since=_since(ZAI_DAYS.get(body.get("search_recency_filter", ""))),
    )


def read_serper(body: Body) -> Query:
    """Read a request to Serper; a domain is a `site:` inside the query."""
    return Query(
        text=body["q"],
        count=body.get("num", 10),
        since=_since(SERPER_DAYS.get(body.get("tbs", ""))),
    )


def _since(days: int | None) -> str | None:
    return None if days is None else (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


def write_zai(hits: list[Hit], request_id: str) -> dict[str, Any]:
    """Write Z.ai's answer."""
    found = [
        {
            "title": hit.title,
            "link": hit.url,
            "content": hit.snippet,
            "media": urlsplit(hit.url).hostname or "",
            "icon": "",
            "refer": f"ref_{position}",
            "publish_date": hit.published or "",
        }
        for position, hit in enumerate(hits, start=1)
    ]
    return {"id": request_id, "created": 1_760_000_000, "search_result": found}


def write_serper(hits: list[Hit], _request_id: str) -> dict[str, Any]:
    """Write Serper's answer."""
    organic: list[dict[str, Any]] = [
        {"title": hit.title, "link": hit.url, "snippet": hit.snippet, "position": position}
        | ({"date": hit.published} if hit.published else {})
        for position, hit in enumerate(hits, start=1)
    ]
    return {"searchParameters": {"type": "search", "engine": "google"}, "organic": organic}


def write_zai_error(status: int, code: str) -> dict[str, Any]:
    """Write an error of Z.ai: codes are numbers in strings."""
    codes = {401: "1000", 429: "1302", 400: "1214", 404: "1211"}
    return {"error": {"code": code or codes.get(status, "500"), "message": f"fake {status}"}}


def write_serper_error(status: int, _code: str) -> dict[str, Any]:
    """Write an error of Serper."""
    return {"message": f"The fake answers {status}.", "statusCode": status}
