"""Pages per second of a crawl over HTTP, beside crawl4ai's, on one site: `make bench`.

Ours is a whole crawl, from one URL: robots.txt, links found and followed, redirects as URLs of
their own, every page extracted (Markdown, text, links), and frontier, bytes and contents durable
in Postgres before the next request. crawl4ai gets the list of the pages (`arun_many`, its HTTP
strategy, no delays, no cache, no robots.txt), makes Markdown and links, and writes nothing; its
deep crawl, which finds its pages as ours does, is measured too. Site, Postgres and each crawler
are processes of their own; the best of the rounds counts, which take turns. CPU and resident
memory are the crawler's with its children: ours reads pages in processes of its own. Imports come
before the clock starts, for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGES, ROUNDS = 2_000, 3
AT_ONCE = 16
GOAL = 1.5
"""Pages per second, as a multiple of the peer's best."""
FLAT = 0.10
"""What the second half of the pages may add to the memory that the first left."""
OURS, LISTED, DEEP = "llm_common", "crawl4ai arun_many", "crawl4ai deep crawl"

Crawler = Callable[[str, int], Awaitable[dict[str, float]]]


def cpu_s() -> float:
    """Return the CPU that this process has used, and those of its children that have ended."""
    return sum(os.times()[:4])


def resident_mib() -> float:
    """Return the resident memory of this process and its children."""
    found = Path("/proc/self/task").glob("*/children")
    pids = ["self", *(pid for file in found for pid in file.read_text().split())]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def ours(url: str, pages: int) -> dict[str, float]:
    """Crawl from one page."""
    # What is imported late is imported before the clock starts, as crawl4ai's imports are.
    import aiohttp  # noqa: F401
    import psycopg  # noqa: F401
    import trafilatura  # noqa: F401

    from llm_common.crawling import CrawlConfig, crawl
    from llm_common.crawling.addresses import guard
    from llm_common.crawling.http_fetcher import HttpFetcher

    fetcher = HttpFetcher(guard(["127.0.0.0/8"]))
    config = CrawlConfig(
        max_pages=pages,
        include=("/page/", "/go/"),
        concurrency=AT_ONCE,
        per_host_concurrency=AT_ONCE,
        per_host_delay_s=0,
    )
    where = {"db": os.environ["BENCH_DATABASE"], "project": "bench"}
    half = whole = 0.0
    fetched = 0
    began, cpu = time.perf_counter(), cpu_s()
    async with crawl(f"{url}/page/0", config, fetcher=fetcher, **where) as going:
        async for page in going:
            fetched += page.content is not None and bool(page.content.markdown)
            if fetched in (pages // 2, pages):
                half, whole = whole, resident_mib()
    took, cpu = time.perf_counter() - began, cpu_s() - cpu
    await fetcher.aclose()
    return {"pages": fetched, "s": took, "cpu_s": cpu, "half": half, "mib": whole}


async def listed(url: str, pages: int) -> dict[str, float]:
    """Let crawl4ai fetch a list."""
    async with _crawl4ai() as (crawler, config, dispatcher):
        urls = [f"{url}/page/{n}" for n in range(pages)]
        began, cpu = time.perf_counter(), cpu_s()
        results = await crawler.arun_many(urls, config=config(), dispatcher=dispatcher())
        fetched = sum(r.success and bool(r.markdown.raw_markdown) for r in results)
        took, cpu = time.perf_counter() - began, cpu_s() - cpu
    return {"pages": fetched, "s": took, "cpu_s": cpu, "half": 0, "mib": resident_mib()}


async def deep(url: str, pages: int) -> dict[str, float]:
    """Let crawl4ai find its pages."""
    from crawl4ai.deep_crawling import BFSDeepCrawlStrategy, FilterChain
    from crawl4ai.deep_crawling.filters import URLPatternFilter

    async with _crawl4ai() as (crawler, config, _):
        within = FilterChain([URLPatternFilter(["*/page/*", "*/go/*"])])
        strategy = BFSDeepCrawlStrategy(max_depth=99, max_pages=pages, filter_chain=within)
        began, cpu = time.perf_counter(), cpu_s()
        fetched = 0
        stream = await crawler.arun(
            f"{url}/page/0", config=config(stream=True, deep_crawl_strategy=strategy)
        )
        async for result in stream:
            fetched += result.success and bool(result.markdown.raw_markdown)
        took, cpu = time.perf_counter() - began, cpu_s() - cpu
    return {"pages": fetched, "s": took, "cpu_s": cpu, "half": 0, "mib": resident_mib()}


@asynccontextmanager
async def _crawl4ai() -> AsyncIterator[tuple]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from crawl4ai import AsyncWebCrawler, CacheMode, CrawlerRunConfig
    from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy
    from crawl4ai.async_dispatcher import SemaphoreDispatcher

    def config(**more: object) -> CrawlerRunConfig:
        return CrawlerRunConfig(
            cache_mode=CacheMode.BYPASS,
            mean_delay=0,
            max_range=0,
            semaphore_count=AT_ONCE,
            verbose=False,
            **more,
        )

    def dispatcher() -> SemaphoreDispatcher:
        return SemaphoreDispatcher(semaphore_count=AT_ONCE, max_session_permit=AT_ONCE)

    strategy = AsyncHTTPCrawlerStrategy(max_connections=AT_ONCE)
    async with AsyncWebCrawler(crawler_strategy=strategy, verbose=False) as crawler:
        yield crawler, config, dispatcher


CRAWLERS: dict[str, Crawler] = {OURS: ours, LISTED: listed, DEEP: deep}


async def database() -> str:
    """Return a fresh, migrated database of the embedded Postgres."""
    import peers

    return await peers.database()


def forget() -> None:
    """Empty the tables: what an earlier round has read would not be read again."""
    import psycopg

    with psycopg.connect(os.environ["BENCH_DATABASE"], autocommit=True) as connection:
        connection.execute(
            "TRUNCATE llm_crawls, llm_crawl_urls, llm_page_bodies, llm_page_contents"
        )


def measure(name: str, url: str, pages: int) -> dict[str, float]:
    """Run one crawler in a process of its own."""
    forget()
    command = [sys.executable, __file__, "--measure", name, "--url", url, "--pages", str(pages)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def compare(pages: int, rounds: int) -> bool:
    """Measure every crawler in turns, print a table, and return whether the goals are reached."""
    serve = [sys.executable, "-m", "tests.crawling.site", str(pages)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(serve, cwd=REPOSITORY, text=True, **pipes) as site:
        assert site.stdin
        assert site.stdout
        url = site.stdout.readline().strip()
        runs = [{name: measure(name, url, pages) for name in CRAWLERS} for _ in range(rounds)]
        site.stdin.close()
    best = {name: min((run[name] for run in runs), key=lambda r: r["s"]) for name in CRAWLERS}
    rate = {name: found["pages"] / found["s"] for name, found in best.items()}
    for name, found in best.items():
        print(
            f"{name:<20} {found['pages']:>6,.0f} pages  {rate[name]:6.0f} pages/s  "
            f"{found['cpu_s'] / found['pages'] * 1000:5.2f} ms CPU/page  {found['mib']:4.0f} MiB"
        )
    ratio = rate[OURS] / max(rate[LISTED], rate[DEEP])
    grown = best[OURS]["mib"] / best[OURS]["half"] - 1
    print(f"ours beside the faster of the two: {ratio:.2f} (to reach: {GOAL:.2f})")
    print(f"memory, second half of the pages: {grown:+.1%} (to reach: at most {FLAT:+.0%})")
    complete = best[OURS]["pages"] == pages
    return ratio >= GOAL and grown <= FLAT and complete


def main() -> None:
    """Compare, or measure one crawler; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", choices=CRAWLERS)
    parser.add_argument("--url")
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.measure:
        crawler = CRAWLERS[arguments.measure]
        print(json.dumps(asyncio.run(crawler(arguments.url, arguments.pages))))
        return
    with tempfile.TemporaryDirectory(prefix="llm_common_bench_") as folder:
        os.environ["LLM_COMMON_STATE_DIR"] = folder
        os.environ["CRAWL4_AI_BASE_DIRECTORY"] = folder
        os.environ["BENCH_DATABASE"] = asyncio.run(database())
        reached = compare(arguments.pages, arguments.rounds)
    if not reached:
        sys.exit("a goal is missed")


if __name__ == "__main__":
    main()
