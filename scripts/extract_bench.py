"""Reading article pages beside the peers, in the same run: `make bench`.

Each reader has a process of its own, reads one page to warm up, then all pages; the best of three
rounds by processor time counts. Ours gives both texts, links, facts and dates; crawl4ai its
`fit_markdown` from cleaned HTML; trafilatura text alone. F1 is that of `extract_score.score`.
Ratios hold, pages per second depend on the machine.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import extract_score

ROUNDS = 3
GOAL_F1, GOAL_PAGES_PER_S, GOAL_TIMES = 0.960, 20.0, 2.0
GOAL_CONTACTS, GOAL_TOKENS = 0.995, 0.12
OURS, PEER = "llm_common extract", "crawl4ai PruningContentFilter"
PEER_LXML, TRAFILATURA = "crawl4ai PruningContentFilterLXML", "trafilatura extract"

Reader = Callable[[str, str], str]


def ours() -> Reader:
    from llm_common.crawling import extract

    return lambda html, url: extract(html, url).markdown


def crawl4ai(content_filter: str) -> Reader:
    peer = importlib.import_module("crawl4ai")
    scraping = peer.LXMLWebScrapingStrategy()
    pruning = getattr(peer, content_filter)()
    generator = peer.DefaultMarkdownGenerator(content_filter=pruning)

    def read(html: str, url: str) -> str:
        cleaned = scraping.scrap(url, html).cleaned_html
        return generator.generate_markdown(cleaned, base_url=url).fit_markdown or ""

    return read


def trafilatura() -> Reader:
    peer = importlib.import_module("trafilatura")
    return lambda html, url: peer.extract(html, url=url, include_comments=False) or ""


READERS: dict[str, Callable[[], Reader]] = {
    OURS: ours,
    PEER: lambda: crawl4ai("PruningContentFilter"),
    PEER_LXML: lambda: crawl4ai("PruningContentFilterLXML"),
    TRAFILATURA: trafilatura,
}


@dataclass(frozen=True)
class Figures:
    pages_per_s: float
    f1: float
    peak_mib: int


def measure(name: str) -> Figures:
    warnings.simplefilter("ignore", DeprecationWarning)
    pages = list(extract_score.articles().values())
    html = [page.html.decode("utf-8", "replace") for page in pages]
    read = READERS[name]()
    read(html[0], pages[0].url)
    best, texts = float("inf"), [""]
    for _ in range(ROUNDS):
        begun = time.process_time()
        texts = [read(source, page.url) for source, page in zip(html, pages, strict=True)]
        best = min(best, time.process_time() - begun)
    pairs = zip(map(extract_score.plain_words, texts), (p.truth for p in pages), strict=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Figures(len(pages) / best, extract_score.score(pairs).f1, peak)


def survival() -> tuple[float, float]:
    """Return the share of contacts in the full text, and of tokens in the Markdown."""
    from llm_common.crawling import extract
    from llm_common.crawling.survival import survives

    read = [(page, extract(page.html)) for page in extract_score.contact_pages().values()]
    held = [
        survives(kind, value, content.text)
        for page, content in read
        for kind, value in page.contacts()
    ]
    share = extract_score.token_share([(page.html, content.markdown) for page, content in read])
    return sum(held) / len(held), share


def goals(found: dict[str, Figures], contacts: float, tokens: float) -> dict[str, bool]:
    mine = found[OURS]
    return {
        f"F1 at least {GOAL_F1}": mine.f1 >= GOAL_F1,
        f"{GOAL_PAGES_PER_S:g} pages/s and core": mine.pages_per_s >= GOAL_PAGES_PER_S,
        f"{GOAL_TIMES:g} times {PEER}": mine.pages_per_s >= GOAL_TIMES * found[PEER].pages_per_s,
        f"contacts at least {GOAL_CONTACTS}": contacts >= GOAL_CONTACTS,
        f"tokens at most {GOAL_TOKENS:.0%}": tokens <= GOAL_TOKENS,
    }


def main() -> int:
    if not extract_score.DATA.is_dir():
        print("the test material is not beside this repository: nothing measured")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        # crawl4ai makes folders at import; litellm would ask the network for prices.
        os.environ.update(CRAWL4_AI_BASE_DIRECTORY=folder, LITELLM_LOCAL_MODEL_COST_MAP="True")
        spawn = multiprocessing.get_context("spawn")
        found: dict[str, Figures] = {}
        for name in READERS:
            with ProcessPoolExecutor(1, spawn) as process:
                found[name] = process.submit(measure, name).result()
    print(f"{'181 article pages':36}{'pages/s':>9}{'ours is':>9}{'F1':>8}{'peak MiB':>10}")
    for name, each in found.items():
        times = found[OURS].pages_per_s / each.pages_per_s
        print(f"{name:36}{each.pages_per_s:9.1f}{times:8.2f}x{each.f1:8.4f}{each.peak_mib:10}")
    contacts, tokens = survival()
    print(f"237 contact pages: {contacts:.4f} of the contacts in the text, ", end="")
    print(f"Markdown {tokens:.1%} of the tokens of the HTML")
    kept = goals(found, contacts, tokens)
    for goal, reached in kept.items():
        print("reached" if reached else "MISSED ", goal)
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
