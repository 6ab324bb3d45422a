"""The billing endpoints of three providers on loopback, in the format that each documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

KEYS = {name: f"admin-key-of-{name}" for name in ("openai", "openrouter", "anthropic")}
PER_PAGE = 2
"""Buckets of a page, fewer than were asked for, so that there are several."""


@dataclass
class Bills:
    """What each provider charges.

    Attributes:
        lines: provider -> (day, USD, currency) of each line.
        status: of every answer.
        body: replaces the answer.
        endless: the last page names itself as the next one.
        requests: paths with their queries, as they came.
    """

    url: str = ""
    lines: dict[str, list[tuple[date, Decimal, str]]] = field(default_factory=dict)
    status: int = 200
    body: Any = None
    endless: bool = False
    requests: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return the variables that point to it; the paths are as the providers have them."""
        paths = {
            "openai": "/openai/v1",
            "openrouter": "/openrouter/api/v1",
            "anthropic": "/anthropic",
        }
        urls = {f"{name.upper()}_BASE_URL": self.url + path for name, path in paths.items()}
        return {**urls, **{f"{name.upper()}_ADMIN_KEY": key for name, key in KEYS.items()}}

    def charge(self, provider: str, day: date, usd: str, currency: str = "usd") -> None:
        self.lines.setdefault(provider, []).append((day, Decimal(usd), currency))

    async def openai(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEYS['openai']}":
            return web.json_response({"error": {"message": "Incorrect API key"}}, status=401)
        first = datetime.fromtimestamp(int(request.query["start_time"]), UTC)
        last = datetime.fromtimestamp(int(request.query["end_time"]), UTC)

        def bucket(day: date) -> dict[str, Any]:
            start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
            results = [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": float(usd), "currency": currency},
                    "line_item": None,
                    "project_id": None,
                }
                for at, usd, currency in self.lines.get("openai", ())
                if at == day
            ]
            times = {"start_time": start, "end_time": start + 86_400}
            return {"object": "bucket", **times, "results": results}

        return self._page(request, [bucket(d) for d in days(first.date(), last.date())], "page")

    async def anthropic(self, request: web.Request) -> web.Response:
        if request.headers.get("x-api-key") != KEYS["anthropic"]:
            return web.json_response({"type": "error"}, status=403)
        assert request.headers["anthropic-version"] == "2023-06-01"
        first = datetime.fromisoformat(request.query["starting_at"])
        last = datetime.fromisoformat(request.query["ending_at"])

        def bucket(day: date) -> dict[str, Any]:
            results = [
                {
                    "amount": f"{usd * 100:f}",
                    "currency": currency.upper(),
                    "cost_type": None,
                    "description": None,
                    "model": None,
                    "workspace_id": None,
                }
                for at, usd, currency in self.lines.get("anthropic", ())
                if at == day
            ]
            ending = f"{day + timedelta(days=1)}T00:00:00Z"
            return {"starting_at": f"{day}T00:00:00Z", "ending_at": ending, "results": results}

        return self._page(request, [bucket(d) for d in days(first.date(), last.date())], None)

    async def openrouter(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEYS['openrouter']}":
            return web.json_response({"error": {"code": 403, "message": "no"}}, status=403)
        self.requests.append(request.path_qs)
        data = [
            {
                "date": str(day),
                "model": "openai/gpt-4.1",
                "model_permaslug": "openai/gpt-4.1-2025-04-14",
                "endpoint_id": "550e8400-e29b-41d4-a716-446655440000",
                "provider_name": "OpenAI",
                "usage": float(usd),
                "byok_usage_inference": 0.0,
                "requests": 1,
            }
            for day, usd, _ in self.lines.get("openrouter", ())
        ]
        return self._answer({"data": data})

    def _page(
        self, request: web.Request, buckets: list[dict[str, Any]], kind: str | None
    ) -> web.Response:
        self.requests.append(request.path_qs)
        start = int(request.query.get("page", "page_0").removeprefix("page_"))
        more = self.endless or start + PER_PAGE < len(buckets)
        after = start if self.endless else start + PER_PAGE
        page = {
            "data": buckets[start : start + PER_PAGE],
            "has_more": more,
            "next_page": f"page_{after}" if more else None,
        }
        return self._answer({"object": kind, **page} if kind else page)

    def _answer(self, page: dict[str, Any]) -> web.Response:
        body = page if self.body is None else self.body
        if isinstance(body, str):
            return web.Response(text=body, status=self.status)
        return web.json_response(body, status=self.status)


def days(first: date, end: date) -> list[date]:
    """Return the days from the first to before the end."""
    return [first + timedelta(days=n) for n in range((end - first).days)]


@asynccontextmanager
async def serving() -> AsyncIterator[Bills]:
    """Lend running endpoints without a charge."""
    bills = Bills()
    app = web.Application()
    app.router.add_get("/openai/v1/organization/costs", bills.openai)
    app.router.add_get("/openrouter/api/v1/activity", bills.openrouter)
    app.router.add_get("/anthropic/v1/organizations/cost_report", bills.anthropic)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        bills.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield bills
    finally:
        await runner.cleanup()
