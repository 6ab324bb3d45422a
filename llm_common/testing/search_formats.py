"""The searches of six engines, as their public references describe them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from .corpus import Hit, Query

Body = Mapping[str, Any]

ZAI_DAYS = {"oneDay": 1, "oneWeek": 7, "oneMonth": 31, "oneYear": 366}
SERPER_DAYS = {"qdr:d": 1, "qdr:w": 7, "qdr:m": 31, "qdr:y": 366}
BRAVE_DAYS = {"pd": 1, "pw": 7, "pm": 31, "py": 366}
RANGE_DAYS = {"day": 1, "week": 7, "month": 31, "year": 366}
PAGE = 20
"""Results of a page of SearXNG, and the most that Brave and Tavily give at once."""


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


def read_tavily(body: Body) -> Query:
    """Read a request to Tavily."""
    return Query(
        text=body["query"],
        count=_most(body.get("max_results", 5), PAGE),
        domain=",".join(body.get("include_domains", ())) or None,
        since=_since(RANGE_DAYS.get(body.get("time_range", ""))),
    )


def read_brave(parameters: Body) -> Query:
    """Read a request to Brave; a domain is a `site:` inside the query."""
    return Query(
        text=parameters["q"],
        count=_most(int(parameters.get("count", PAGE)), PAGE),
        since=_since(BRAVE_DAYS.get(parameters.get("freshness", ""))),
    )


def read_exa(body: Body) -> Query:
    """Read a request to Exa."""
    return Query(
        text=body["query"],
        count=_most(body.get("numResults", 10), 100),
        domain=",".join(body.get("includeDomains", ())) or None,
        since=str(body.get("startPublishedDate", ""))[:10] or None,
    )


def read_searxng(parameters: Body) -> Query:
    """Read a request to SearXNG, which takes no count."""
    if parameters.get("format") != "json":
        raise ValueError("the fake writes JSON only")
    return Query(
        text=parameters["q"],
        count=PAGE,
        since=_since(RANGE_DAYS.get(parameters.get("time_range", ""))),
    )


def _most(asked: int, limit: int) -> int:
    """Refuse what the engine refuses: more results than it gives at once."""
    if not 0 < asked <= limit:
        raise ValueError(f"between 1 and {limit} results")
    return asked


def _since(days: int | None) -> str | None:
    return None if days is None else (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


def write_zai(hits: list[Hit], request_id: str, _cost: Decimal | None) -> dict[str, Any]:
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


def write_serper(hits: list[Hit], _request_id: str, _cost: Decimal | None) -> dict[str, Any]:
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


def write_tavily(hits: list[Hit], request_id: str, _cost: Decimal | None) -> dict[str, Any]:
    """Write Tavily's answer."""
    results: list[dict[str, Any]] = [
        {
            "title": hit.title,
            "url": hit.url,
            "content": hit.snippet,
            "score": round(0.99 - position / 100, 2),
            "raw_content": None,
        }
        | ({"published_date": hit.published} if hit.published else {})
        for position, hit in enumerate(hits)
    ]
    return {
        "query": "",
        "answer": None,
        "images": [],
        "results": results,
        "response_time": 0.5,
        "request_id": request_id,
    }


def write_brave(hits: list[Hit], _request_id: str, _cost: Decimal | None) -> dict[str, Any]:
    """Write Brave's answer; where nothing was found, it has no part `web`."""
    results: list[dict[str, Any]] = [
        {
            "type": "search_result",
            "title": hit.title,
            "url": hit.url,
            "description": hit.snippet,
            "is_source_local": False,
            "language": "en",
        }
        | ({"page_age": f"{hit.published}T00:00:00"} if hit.published else {})
        for hit in hits
    ]
    web = {"web": {"type": "search", "results": results, "family_friendly": True}} if hits else {}
    return {"type": "search", "query": {"original": "", "more_results_available": False}, **web}


def write_exa(hits: list[Hit], request_id: str, cost: Decimal | None) -> dict[str, Any]:
    """Write Exa's answer, which says what it costs."""
    results: list[dict[str, Any]] = [
        {
            "id": hit.url,
            "title": hit.title,
            "url": hit.url,
            "author": None,
            "highlights": [hit.snippet],
            "highlightScores": [0.5],
        }
        | ({"publishedDate": f"{hit.published}T00:00:00.000Z"} if hit.published else {})
        for hit in hits
    ]
    billed = {} if cost is None else {"costDollars": {"total": float(cost)}}
    return {"requestId": request_id, "resolvedSearchType": "neural", "results": results, **billed}


def write_searxng(hits: list[Hit], _request_id: str, _cost: Decimal | None) -> dict[str, Any]:
    """Write SearXNG's answer."""
    results = [
        {
            "url": hit.url,
            "title": hit.title,
            "content": hit.snippet,
            "publishedDate": f"{hit.published}T00:00:00" if hit.published else None,
            "engine": "wikipedia",
            "engines": ["wikipedia"],
            "positions": [position],
            "score": round(1 / position, 3),
            "category": "general",
        }
        for position, hit in enumerate(hits, start=1)
    ]
    return {
        "query": "",
        "number_of_results": 0,
        "results": results,
        "answers": [],
        "suggestions": [],
        "unresponsive_engines": [],
    }


def write_tavily_error(status: int, _code: str) -> dict[str, Any]:
    """Write an error of Tavily."""
    return {"detail": {"error": f"The fake answers {status}."}}


def write_brave_error(status: int, code: str) -> dict[str, Any]:
    """Write an error of Brave."""
    codes = {401: "SUBSCRIPTION_TOKEN_INVALID", 422: "VALIDATION", 429: "RATE_LIMITED"}
    error = {"id": "fake", "status": status, "code": code or codes.get(status, "INTERNAL")}
    return {"type": "ErrorResponse", "error": {**error, "detail": f"The fake answers {status}."}}


def write_exa_error(status: int, code: str) -> dict[str, Any]:
    """Write an error of Exa."""
    tags = {400: "INVALID_REQUEST", 401: "INVALID_API_KEY", 402: "NO_MORE_CREDITS"}
    tag = code or tags.get(status, "DEFAULT_ERROR")
    return {"requestId": "fake", "error": f"The fake answers {status}.", "tag": tag}


def write_searxng_error(status: int, _code: str) -> dict[str, Any]:
    """Write an error of SearXNG."""
    return {"error": f"The fake answers {status}."}
