"""Pages per second through a browser, beside crawl4ai's own crawler, and memory: `make bench`.

Both show the same pages, which scripts write, in Debian's Chromium, eight at once, and make
Markdown of them. Ours replaces its browser every 200 pages and reaches the site through the guarded
proxy; crawl4ai's has neither, no delays, no cache. Site and crawlers are processes of their own;
the best of the rounds counts, which take turns. Memory is that of a crawler and all its browsers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
PAGES, LONG, ROUNDS = 200, 2_000, 2
AT_ONCE = 8
FLAT = 0.25
"""What the peak of the last quarter of the pages may be above that of the second."""
OURS, THEIRS = "llm_common", "crawl4ai"

Figures = dict[str, float]


class Memory:
    """Samples the memory of this process and all below it; what they share is split (PSS)."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def take(self) -> float:
        """Return the peak since the last time, in MiB."""
        peak, self.peak = self.peak, 0
        return peak / 2**20

    def stop(self) -> None:
        self._over.set()

    def _sample(self) -> None:
        import psutil

        while not self._over.wait(1):
            own = psutil.Process()
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


async def ours(url: str, pages: int) -> Figures:
    """Fetch and read."""
    from llm_common.crawling import read_page
    from llm_common.crawling.addresses import guard
    from llm_common.crawling.browser_fetcher import BrowserFetcher, BrowserLimits

    fetcher = BrowserFetcher(guard(["127.0.0.0/8"]), limits=BrowserLimits(pages_at_once=AT_ONCE))
    shown = 0

    async def one(number: int) -> None:
        nonlocal shown
        content = read_page(await fetcher.fetch(f"{url}/page/{number}"))
        shown += f"Page {number}:" in content.markdown

    figures = await _timed(one, pages)
    await fetcher.aclose()
    return {**figures, "pages": shown}


async def theirs(url: str, pages: int) -> Figures:
    """Let crawl4ai fetch a list; it is given the system's Chromium, which it does not look for."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from crawl4ai import AsyncWebCrawler, BrowserConfig, CacheMode, CrawlerRunConfig
    from crawl4ai.async_crawler_strategy import AsyncPlaywrightCrawlerStrategy
    from crawl4ai.browser_manager import BrowserManager

    from llm_common.crawling.chromium import executable

    class Manager(BrowserManager):
        def _build_browser_args(self) -> dict[str, Any]:
            return {**super()._build_browser_args(), "executable_path": executable()}

    config = BrowserConfig(headless=True, verbose=False)
    strategy = AsyncPlaywrightCrawlerStrategy(config)
    strategy.browser_manager = Manager(config, logger=strategy.logger)
    shown = 0
    async with AsyncWebCrawler(crawler_strategy=strategy, config=config) as crawler:

        async def one(number: int) -> None:
            nonlocal shown
            run = CrawlerRunConfig(
                cache_mode=CacheMode.BYPASS,
                mean_delay=0,
                max_range=0,
                delay_before_return_html=0,
                verbose=False,
            )
            result = await crawler.arun(f"{url}/page/{number}", config=run)
            shown += result.success and f"Page {number}:" in result.markdown.raw_markdown

        figures = await _timed(one, pages)
    return {**figures, "pages": shown}


async def _timed(one: Callable[[int], Awaitable[None]], pages: int) -> Figures:
    """Run all pages, eight at once; memory is the peak of each quarter."""
    memory, quarters = Memory(), []
    began = time.perf_counter()
    for quarter in range(4):
        numbers = iter(range(quarter * pages // 4, (quarter + 1) * pages // 4))

        async def worker(numbers: Any = numbers) -> None:
            for number in numbers:
                await one(number)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        quarters.append(memory.take())
    memory.stop()
    return {"s": time.perf_counter() - began, "second": quarters[1], "last": quarters[3]}


CRAWLERS = {OURS: ours, THEIRS: theirs}


def measure(name: str, url: str, pages: int) -> Figures:
    """Run one crawler in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, "--url", url, "--pages", str(pages)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def told(name: str, figures: Figures) -> float:
    """Print a line and return the pages per second."""
    rate = figures["pages"] / figures["s"]
    pages, second, last = figures["pages"], figures["second"], figures["last"]
    line = f"{name:<12} {pages:>6,.0f} pages  {rate:5.1f} pages/s"
    print(f"{line}  peak of the second quarter {second:5.0f} MiB, of the last {last:5.0f} MiB")
    return rate


def compare(pages: int, long: int, rounds: int) -> bool:
    """Measure both in turns, then ours for long; return whether the goals are reached."""
    serve = [sys.executable, __file__, "--serve"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(serve, cwd=REPOSITORY, text=True, **pipes) as site:
        assert site.stdin
        assert site.stdout
        url = site.stdout.readline().strip()
        runs = [{name: measure(name, url, pages) for name in CRAWLERS} for _ in range(rounds)]
        best = {name: min((run[name] for run in runs), key=lambda r: r["s"]) for name in CRAWLERS}
        rate = {name: told(name, found) for name, found in best.items()}
        lasting = measure(OURS, url, long)
        told("for long", lasting)
        site.stdin.close()
    ratio = rate[OURS] / rate[THEIRS]
    grown = lasting["last"] / lasting["second"] - 1
    print(f"ours beside crawl4ai's: {ratio:.2f} (to reach: 1.00)")
    print(f"memory, last quarter of {long:,} pages: {grown:+.1%} (to reach: at most {FLAT:+.0%})")
    complete = best[OURS]["pages"] == pages and lasting["pages"] == long
    return ratio >= 1 and grown <= FLAT and complete


async def serve() -> None:
    """Serve pages that are empty until their script has run; end with the input."""
    from aiohttp import web

    sys.path.insert(0, str(REPOSITORY))
    from tests.crawling.site import text_of

    async def page(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        body = json.dumps(f"<main><h1>Page {number}</h1>{text_of(number)}</main>")
        html = (
            f"<!doctype html><title>{number}</title><body><script>document.body.innerHTML = {body}"
        )
        return web.Response(text=f"{html}</script>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/page/{number}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def main() -> None:
    """Compare, measure one crawler, or serve; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", choices=CRAWLERS)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--url")
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--long", type=int, default=LONG)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
    elif arguments.measure:
        crawler = CRAWLERS[arguments.measure]
        print(json.dumps(asyncio.run(crawler(arguments.url, arguments.pages))))
    else:
        with tempfile.TemporaryDirectory(prefix="llm_common_bench_") as folder:
            os.environ["LLM_COMMON_STATE_DIR"] = folder
            os.environ["CRAWL4_AI_BASE_DIRECTORY"] = folder
            reached = compare(arguments.pages, arguments.long, arguments.rounds)
        if not reached:
            sys.exit("a goal is missed")


if __name__ == "__main__":
    main()
