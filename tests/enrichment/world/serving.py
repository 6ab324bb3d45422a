"""The world on loopback: its sites, its search engine and its model.

Sites keep names such as www.senate.ca.gov: `WorldFetcher` asks one server on 127.0.0.1 for the
pages of all of them, over real HTTP, with the host as the first part of the path.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from aiohttp import web

from llm_common.crawling import Fetched, Reason
from llm_common.crawling.http_fetcher import HttpFetcher, Limits
from llm_common.crawling.models import MOST_REDIRECTS
from llm_common.testing import ProviderServer
from tests.crawling.web import LOOPBACK

from .model import Model
from .world import World

ROBOTS = "User-agent: *\nDisallow: /private/\n"
SCHEME = "https://"
PATIENCE_S = 120.0
"""For a page: how busy the machine is must not cost a cell."""


class WorldFetcher:
    """Fetches from the world alone; what is not part of it is unreachable.

    Args:
        sites: URL of the server that has all sites.
        hosts: the hosts there are.
    """

    name = "http"

    def __init__(self, sites: str, hosts: frozenset[str], *, timeout_s: float = PATIENCE_S) -> None:
        self._sites = f"{sites}/"
        self._hosts = hosts
        self._http = HttpFetcher(LOOPBACK, limits=Limits(timeout_s=timeout_s))

    async def fetch(self, url: str, *, hops: int = MOST_REDIRECTS) -> Fetched:
        """Fetch one URL of the world; see `Fetcher.fetch`."""
        parts = urlsplit(url)
        if parts.hostname not in self._hosts:
            return Fetched(url, url, Reason.UNREACHABLE)
        query = f"?{parts.query}" if parts.query else ""
        inner = f"{self._sites}{parts.hostname}{parts.path or '/'}{query}"
        fetched = await self._http.fetch(inner, hops=hops)
        return replace(fetched, url=url, final_url=self._outer(fetched.final_url))

    def _outer(self, inner: str) -> str:
        return SCHEME + inner.removeprefix(self._sites)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


@dataclass
class Served:
    """Where everything is, and what was asked.

    Attributes:
        sites: URL of the server that has all sites.
        asked: how often each URL was fetched, robots.txt included.
        providers: the search engines and the model; its `environment()` points there.
        model: counts what it was asked and the mistakes it made.
    """

    world: World
    sites: str
    providers: ProviderServer
    model: Model
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(urlsplit(url).netloc for url in self.world.pages)

    def environment(self) -> dict[str, str]:
        """Return the variables that point every search engine and provider here."""
        return self.providers.environment()

    def fetcher(self, *, timeout_s: float = PATIENCE_S) -> WorldFetcher:
        """Return a fetcher of this world's pages."""
        return WorldFetcher(self.sites, self.hosts, timeout_s=timeout_s)

    @property
    def closed_and_asked(self) -> list[str]:
        """Return the URLs that were fetched although robots.txt forbids it."""
        return [url for url in self.asked if "/private/" in url]


@asynccontextmanager
async def serve(
    world: World, model: Model | None = None, *, slow_s: float = 1.0
) -> AsyncIterator[Served]:
    """Serve a world in this process.

    Args:
        model: errs at the usual rates by default.
        slow_s: seconds before a slow page comes.
    """
    model = model or Model(world.seed)
    async with ProviderServer(world.engine.find, respond=model.respond) as providers:
        served = Served(world, "", providers, model)
        app = web.Application()

        async def answer(request: web.Request) -> web.StreamResponse:
            url = SCHEME + request.path_qs.lstrip("/")
            served.asked[url] += 1
            return await _answer(world, url, slow_s)

        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            served.sites = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield served
        finally:
            await runner.cleanup()


async def _answer(world: World, url: str, slow_s: float) -> web.Response:
    if urlsplit(url).path == "/robots.txt":
        return web.Response(text=ROBOTS)
    page = world.pages.get(url)
    if page is None or page.status == 404:
        return web.Response(status=404, text="<h1>Not found</h1>", content_type="text/html")
    if page.is_slow:
        await asyncio.sleep(slow_s)
    return web.Response(text=page.html, content_type="text/html")
