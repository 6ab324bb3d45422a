"""The page in a real Chromium: what persons do there, and that nothing found ever runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from llm_common import CostTracker, EnrichmentPipeline, LLMClient, WebSearchClient
from llm_common.crawling.chromium import executable
from llm_common.database import pool
from llm_common.enrichment import Components, EnrichmentRequest
from llm_common.enrichment.interfaces import LLMEnricher
from llm_common.integrations.fastapi.local import local_app
from llm_common.review import decide, reviews
from tests.support import skip_or_fail

from .serving import Api, running
from .test_openapi import Found, Nothing

pytestmark = pytest.mark.web

TOKEN = "a-token-of-the-test"
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>'
LINKS = ["javascript:window.hacked=3", "data:text/html,<script>window.hacked=4</script>"]
COLUMNS = [{"name": "party", "type": "choice", "choices": ["Democratic", "Independent"]},
           {"name": "<b>motto</b>"}]  # fmt: skip
REQUEST = EnrichmentRequest.model_validate({"keys": ["name"], "columns_to_enrich": COLUMNS})
ROWS = [{"name": f"{EVIL} {n}"} for n in range(4)]


class Evil(LLMEnricher):
    """Says what would run if it were markup, after a while.

    Attributes:
        go_on: is waited for.
    """

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def enrich_batch(
        self, crawl_data: Any, batch_rows: Any, columns_to_enrich: Any
    ) -> list[dict[str, Any]]:
        await self.go_on.wait()
        cells = {
            "party": {"value": "Independent", "quote": EVIL, "url": LINKS[0]},
            "<b>motto</b>": {"value": EVIL, "quote": EVIL, "url": LINKS[1]},
        }
        return [{"row": n, "cells": cells} for n in range(len(batch_rows))]


class EvilFound(Found):
    """Finds pages that lead nowhere good."""

    async def search(self, queries: Sequence[str]) -> list[dict[str, Any]]:
        found = await super().search(queries)
        extra = [{"url": url, "title": EVIL, "snippet": EVIL, "query": queries[0]} for url in LINKS]
        return [*found, *extra]


@dataclass
class Seen:
    """What a browser did that it should not have."""

    problems: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@dataclass
class Place:
    """A server, a browser in front of it, and what works behind."""

    api: Api
    page: Any
    pipeline: EnrichmentPipeline
    enricher: Evil
    costs: CostTracker
    seen: Seen

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.api.port}"

    async def job(self) -> str:
        return await self.pipeline.submit(ROWS, REQUEST)

    async def done(self) -> str:
        job_id = await self.job()
        self.enricher.go_on.set()
        await self.pipeline.run(job_id)
        return job_id

    async def open(self, where: str) -> None:
        await self.page.goto(f"{self.base}/#{where}")


@asynccontextmanager
async def chromium(**how: Any) -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=executable(), args=flags)
        context = await browser.new_context(**how)
        context.set_default_timeout(120_000)
        yield await context.new_page()
        await browser.close()


def watched(page: Any, base: str) -> Seen:
    seen = Seen()

    def asked(request: Any) -> None:
        seen.asked.append(request.url)
        if not request.url.startswith(base):
            seen.problems.append(f"asked {request.url}")

    page.on("request", asked)
    page.on("pageerror", lambda error: seen.problems.append(str(error)))
    page.on("dialog", lambda dialog: seen.problems.append(dialog.message))
    page.on(
        "console",
        lambda said: seen.problems.append(said.text) if said.type == "error" else None,
    )
    return seen


@pytest.fixture(params=[{"viewport": {"width": 1200, "height": 900}}], ids=["wide"])
async def place(request: Any, database_url: str) -> AsyncIterator[Place]:
    if executable() is None:
        skip_or_fail("there is no Chromium on this machine")
    costs = CostTracker(database_url, project="page")
    enricher = Evil()
    parts = Components(search_service=EvilFound(), crawler=Nothing(), enricher=enricher)
    pipeline = EnrichmentPipeline(
        LLMClient("openai", api_key="none", cost_tracker=costs),
        WebSearchClient("none", engine="serper", cost_tracker=costs),
        costs,
        components=parts,
    )
    app = local_app(pipeline, token=TOKEN, user="ann", port=0)
    async with running(app) as api, chromium(**request.param) as page:
        base = f"http://127.0.0.1:{api.port}"
        seen = watched(page, base)
        await page.goto(f"{base}/enter?token={TOKEN}")
        place = Place(api, page, pipeline, enricher, costs, seen)
        yield place
        assert seen.problems == []
        await page.goto("about:blank")
    await pipeline.aclose()
    await costs.aclose()
    await pool.close()


async def harmless(page: Any) -> None:
    """Hold that nothing of what was found became more than text."""
    assert await page.evaluate("window.hacked") is None
    assert await page.locator("img, iframe, object, embed, main script, main b").count() == 0
    for link in await page.locator("a").all():
        href = await link.get_attribute("href")
        assert href.startswith(("#", "https://", "http://", "enrichment/")), href
        if href.startswith("http"):
            assert await link.get_attribute("rel") == "noopener noreferrer"
            assert await link.get_attribute("target") == "_blank"


async def test_a_job_is_followed_and_told_what_to_do(place: Place) -> None:
    page = place.page
    await page.get_by_text("There are no jobs yet").wait_for()
    job_id = await place.job()
    await page.reload()
    await page.get_by_role("link", name=job_id).click()
    await page.get_by_text("0 of 4 rows, 0 %").wait_for()
    assert page.url == f"{place.base}/#/jobs/{job_id}"
    await page.get_by_role("button", name="Resume").click()
    begun = page.get_by_text("The job is running.").or_(page.get_by_text("The job is pending."))
    await begun.first.wait_for()
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_text("The job is paused.").wait_for()
    await page.locator(".badge", has_text="paused").first.wait_for()
    place.enricher.go_on.set()
    await place.pipeline.wait(job_id)
    await page.get_by_text("4 of 4 rows, 100 %").wait_for()
    assert await page.get_by_role("progressbar").get_attribute("aria-label")
    await page.locator("[aria-live=polite]", has_text="100 % of 4 rows").wait_for(state="attached")
    status = await place.pipeline.status(job_id)
    if status["status"] == "paused":
        await page.get_by_role("button", name="Resume").click()
    await page.locator("section .badge", has_text="completed").wait_for()
    assert await page.get_by_role("button", name="Cancel").is_disabled()
    assert await page.get_by_role("button", name="Retry").count() == 0
    before = len(place.seen.asked)
    await asyncio.sleep(4)
    assert len(place.seen.asked) == before, "a stream that has ended is asked for again"


async def test_what_was_found_is_text(place: Place) -> None:
    job_id = await place.done()
    page = place.page
    await place.open(f"/jobs/{job_id}")
    await page.get_by_text("4 of 4 rows, 100 %").wait_for()
    button = page.get_by_role("button", name="Evidence for").first
    await button.press("Enter")
    assert await button.get_attribute("aria-expanded") == "true"
    await page.locator("blockquote", has_text="onerror").first.wait_for()
    assert await page.get_by_text("<b>motto</b>").count() > 0
    await harmless(page)
    async for one in reviews(place.costs.db, "page", job_id=job_id):
        await decide(place.costs.db, "page", one.id, "accept", by="bob")
    await page.reload()
    await page.get_by_role("button", name="Evidence for").first.click()
    await page.locator("article .badge", has_text="accepted").first.wait_for()
    await page.locator("p.value", has_text="<img src=x").first.wait_for()
    await harmless(page)
    await place.open("/reviews")
    await page.get_by_text("Nothing waits for a decision").wait_for()


async def test_an_address_that_is_none_is_no_link(place: Place) -> None:
    """Whatever stands in the database: the page itself decides what may be followed."""
    job_id = await place.done()
    page = place.page
    good = "https://a.example/b?c=1"

    async def hostile(route: Any) -> None:
        answer = await route.fetch()
        body = await answer.json()
        for row in body["rows"]:
            conflicts = [
                {"value": url, "quote": EVIL, "url": url, "verdict": "unverified"}
                for url in [*LINKS, "JaVaScRiPt:window.hacked=5", "\tjavascript:window.hacked=6",
                            "vbscript:x", "file:///etc/passwd", "//a.example", "a b", good]
            ]  # fmt: skip
            for cell in row["cells"].values():
                cell |= {"url": LINKS[0], "quote": EVIL, "conflicts": conflicts}
        await route.fulfill(response=answer, json=body)

    await page.route("**/rows?*", hostile)
    await place.open(f"/jobs/{job_id}")
    await page.get_by_role("button", name="Evidence for").first.click()
    await page.locator("article").first.wait_for()
    links = page.locator("article a")
    assert {await one.get_attribute("href") for one in await links.all()} == {good}
    await page.get_by_text("vbscript:x").first.wait_for()
    await harmless(page)


async def test_a_person_decides_by_keyboard(place: Place) -> None:
    job_id = await place.done()
    page = place.page
    await place.open(f"/reviews/{job_id}")
    cards = page.locator("li.sheet")
    await cards.first.wait_for()
    await harmless(page)
    assert await cards.count() == 8
    await cards.first.get_by_role("button", name="Accept").focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("accepted.").wait_for()
    assert await cards.count() == 7
    assert await page.evaluate("document.activeElement.textContent") == "Accept"
    # From here to the next button and on.
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.get_by_text("rejected.").wait_for()
    party = page.locator("li.sheet", has_text="party of").first
    await party.get_by_label("Right value").select_option("Democratic")
    await party.get_by_label("Note").fill("by phone")
    await party.get_by_role("button", name="Correct").click()
    await page.get_by_text("corrected.").wait_for()
    states = [one.state async for one in reviews(place.costs.db, "page", state=None)]
    assert sorted(states) == ["accepted", "corrected", *["open"] * 5, "rejected"]
    by = {one.by async for one in reviews(place.costs.db, "page", state=None) if one.by}
    assert by == {"ann"}


@pytest.mark.parametrize(
    "place",
    [
        {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "has_touch": True}
        for scheme in ("light", "dark")
    ],
    ids=["light", "dark"],
    indirect=True,
)
async def test_a_small_screen_is_enough(place: Place) -> None:
    job_id = await place.done()
    page = place.page
    for where in ("/jobs", f"/jobs/{job_id}", f"/reviews/{job_id}"):
        await place.open(where)
        title = {2: "Jobs", 3: "Job " if "jobs" in where else "Review"}[len(where.split("/"))]
        await page.locator("h1", has_text=title).wait_for()
        await page.locator("td, li.sheet").first.wait_for()
        if where == f"/jobs/{job_id}":
            await page.get_by_role("button", name="Evidence for").first.click()
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, where
        small = await page.evaluate(
            "[...document.querySelectorAll('button:not([hidden]), input, select')]"
            ".filter((one) => one.getBoundingClientRect().height < 24).length"
        )
        assert small == 0
        if folder := os.environ.get("SCREENSHOTS"):
            name = f"{where.split('/')[1]}-{where.count('/')}-{place.page.viewport_size['width']}"
            scheme = await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
            await page.screenshot(path=f"{folder}/{name}-{scheme}.png", full_page=True)


async def test_a_stranger_sees_nothing(place: Place) -> None:
    async with chromium() as other:
        answer = await other.goto(f"{place.base}/")
        assert answer.status == 401
        answer = await other.goto(f"{place.base}/enter?token=wrong")
        assert answer.status == 401
