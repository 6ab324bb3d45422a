"""A site of so many pages on loopback, the same every time, which counts what it is asked.

Its pages form a tree with short cuts, cycles and redirects in between; around it stand the things
that crawls trip over: traps without an end, loops, broken and slow answers, a part that robots.txt
closes, and one whose links a script makes. `python -m tests.crawling.site 2000` serves it alone.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web

BRANCHES = 8
APP_PAGES = 5
HIDDEN_PAGES = 5
SLOW_S = 0.3
WORDS = (
    *("council", "housing", "permit", "budget", "river", "school", "review", "transit", "public"),
    *("hearing", "notice", "record", "zoning", "water", "committee", "member", "district", "plan"),
    *("report", "office", "annual", "meeting", "street", "bridge", "park", "library"),
)
SPECIAL = (
    "/calendar/2024/01",
    "/maze/a/b",
    "/session",
    "/search?q=a&page=1",
    "/loop/a",
    "/self",
    "/away",
    "/chain/0",
    "/broken/500",
    "/broken/later",
    "/broken/cut",
    "/broken/charset",
    "/broken/missing",
    "/slow",
    "/private/1",
    "/app/0",
)
CHAIN = 4


@dataclass
class BigSite:
    """Where it is, and how often each path was asked.

    Attributes:
        number: pages of the tree.
    """

    number: int
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    sessions: count[int] = field(default_factory=count)

    @property
    def tree(self) -> set[str]:
        """The paths of all pages of the tree."""
        return {f"/page/{n}" for n in range(self.number)}

    @property
    def plain(self) -> set[str]:
        """The paths of all documents that can be reached without a trap and without a script."""
        special = {"/chain/end", "/broken/later", "/broken/charset", "/slow", "/app/0"}
        return self.tree | {"/", "/session"} | special


def depth_of(n: int) -> int:
    """Links from the front page to a page of the tree, on the shortest way."""
    return 1 if n == 0 else 1 + depth_of((n - 1) // BRANCHES)


def text_of(n: int, paragraphs: int = 6) -> str:
    chance = random.Random(n)
    said = (" ".join(chance.choices(WORDS, k=60)) for _ in range(paragraphs))
    return "".join(f"<p>Page {n}: {words}.</p>" for words in said)


def document(title: str, body: str, links: list[tuple[str, str]]) -> str:
    items = "".join(f'<li><a href="{target}">{words}</a></li>' for target, words in links)
    return (
        f"<!doctype html><html lang=en><head><title>{title}</title></head><body>"
        f"<main><h1>{title}</h1>{body}</main><nav><ul>{items}</ul></nav></body></html>"
    )


def tree_page(n: int, number: int) -> str:
    """A page links down the tree, some of it through redirects, and anywhere else upwards."""
    chance = random.Random(n)
    below = range(BRANCHES * n + 1, min(BRANCHES * n + BRANCHES + 1, number))
    links = [(f"/go/{m}" if m % 10 == 7 else f"/page/{m}", f"down to {m}") for m in below]
    # Pages before it in the tree: a short cut down would change the depths.
    links += [(f"/page/{chance.randrange(n + 1)}#top", "see also") for _ in range(5)]
    links.append(("/", "front page"))
    return document(f"Page {n}", text_of(n), links)


def front_page() -> str:
    links = [("/page/0", "the tree"), *((path, path) for path in SPECIAL)]
    return document("Front", text_of(0, 1), links)


def answer(site: BigSite, request: web.Request) -> web.Response:
    """Answer one request; all but counting is decided by the path."""
    first, *rest = request.path.strip("/").split("/")
    if first.startswith("session"):
        again = f"/session;jsessionid={next(site.sessions):032x}"
        return html(document("Session", "<p>Welcome back to the session.</p>", [(again, "again")]))
    match first, rest:
        case "", []:
            return html(front_page())
        case "page", [n] if int(n) < site.number:
            return html(tree_page(int(n), site.number))
        case "go", [n]:
            return moved(f"/page/{n}")
        case "robots.txt", []:
            return web.Response(
                text=f"User-agent: *\nDisallow: /private/\nSitemap: {site.url}/sitemap.xml\n"
            )
        case "sitemap.xml", []:
            paths = [f"/hidden/{n}" for n in range(HIDDEN_PAGES)] + ["/page/1"]
            urls = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)
            return web.Response(text=f"<urlset>{urls}</urlset>", content_type="application/xml")
        case _:
            return special(site, request, first, rest)


def special(site: BigSite, request: web.Request, first: str, rest: list[str]) -> web.Response:
    match first, rest:
        case "hidden", [n]:
            return html(document(f"Hidden {n}", text_of(10_000 + int(n)), []))
        case "private", [_]:
            return html(
                document("Private", "<p>Nobody should read this.</p>", [("/private/2", "x")])
            )
        case "calendar", [year, month]:
            year_, month_ = divmod(int(year) * 12 + int(month), 12)
            later = f"/calendar/{year_}/{month_ + 1:02}"
            return html(
                document(f"{month} {year}", f"<p>Month {month} of {year}.</p>", [(later, "next")])
            )
        case "maze", turns:
            onward = f"{request.path}/{'/'.join(turns[-2:])}"
            return html(document("Maze", f"<p>{len(turns)} turns.</p>", [(onward, "onward")]))
        case "search", []:
            page = int(request.query.get("page", "1"))
            links = [(f"/search?q=a&amp;page={page + 1}", "more")]
            return html(document("Results", f"<p>Results, part {page}.</p>", links))
        case "loop", [side]:
            return moved("/loop/b" if side == "a" else "/loop/a")
        case "self", []:
            return moved("/self")
        case "away", []:
            return moved("http://elsewhere.invalid/")
        case "chain", ["end"]:
            return html(document("End", "<p>The end of the chain.</p>", []))
        case "chain", [n]:
            return moved("/chain/end" if int(n) == CHAIN else f"/chain/{int(n) + 1}")
        case "app", [n]:
            return html(script_page(int(n)))
        case _:
            return broken(site, request)


def script_page(n: int) -> str:
    """A page that is empty until its script has run."""
    link = f'<a href="/app/{n + 1}">next</a>' if n + 1 < APP_PAGES else ""
    script = f"document.body.innerHTML = '<h1>App {n}</h1><p>Made by a script.</p>{link}'"
    return f"<!doctype html><title>App</title><body><script>{script}</script></body>"


def broken(site: BigSite, request: web.Request) -> web.Response:
    match request.path:
        case "/broken/500":
            return web.Response(status=500)
        case "/broken/later" if site.asked["/broken/later"] == 1:
            return web.Response(status=503, headers={"Retry-After": "1"})
        case "/broken/later":
            return html(document("Later", "<p>Here at last.</p>", []))
        case "/broken/charset":
            body = b"<html><meta charset=nonsense><body><p>\xff\xfe\x00 caf\xe9 \x80</p></body>"
            return web.Response(body=body, headers={"Content-Type": "text/html; charset=utf-99"})
        case "/slow":
            return html(document("Slow", "<p>It took its time.</p>", []))
        case _:
            return web.Response(status=404)


def html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


def moved(target: str) -> web.Response:
    return web.Response(status=302, headers={"Location": target})


async def cut(request: web.Request) -> web.StreamResponse:
    """Promise more than comes."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "text/html"})
    await response.prepare(request)
    await response.write(b"<html><body><p>It begins, and")
    assert request.transport
    request.transport.close()
    return response


@asynccontextmanager
async def big_site(number: int, port: int = 0) -> AsyncIterator[BigSite]:
    """Serve the site in this process."""
    site = BigSite(number)

    async def handle(request: web.Request) -> web.StreamResponse:
        site.asked[request.path_qs] += 1
        if request.path == "/broken/cut":
            return await cut(request)
        if request.path == "/slow":
            await asyncio.sleep(SLOW_S)
        return answer(site, request)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield site
    finally:
        await runner.cleanup()


async def serve(number: int) -> None:
    """Serve until the end of standard input; the first line of output is the URL."""
    async with big_site(number) as site:
        print(site.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
