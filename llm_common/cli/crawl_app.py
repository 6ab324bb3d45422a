"""The options of `llm-common crawl`; what crawls is imported by the command that does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .common import Where
from .options import Database, Json, Project, run

DEFAULT = "site"

MaxPages = Annotated[
    int | None, typer.Option(help="Exactly so many, if so many can be reached (100).")
]
Depth = Annotated[int | None, typer.Option(help="Links from the URL; none: without end.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for a Markdown file per page.")]
Strategy = Annotated[str, typer.Option(help="breadth_first, depth_first or best_first.")]
Keywords = Annotated[
    list[str] | None, typer.Option("--keyword", help="What best_first looks for; may be repeated.")
]
Delay = Annotated[float, typer.Option(help="Seconds between two requests to a host.")]
FetcherName = Annotated[str, typer.Option("--fetcher", help="auto, http or browser.")]
IgnoreRobots = Annotated[
    bool, typer.Option("--ignore-robots", help="For a site of your own: robots.txt is not asked.")
]
Sitemaps = Annotated[bool, typer.Option("--sitemaps", help="Start from the sitemaps too.")]
Networks = Annotated[
    list[str] | None,
    typer.Option("--allow-network", help="A private network that may be asked, as 10.1.0.0/16."),
]
Resume = Annotated[str | None, typer.Option(help="Go on with the crawl of this id.")]


class SiteGroup(TyperGroup):
    """A group whose first word may be left out: ``crawl URL`` is ``crawl site URL``.

    Attributes:
        default: the command that is meant where none is named.
        takes_none: whether it is meant where there is no word at all, too.
    """

    default = DEFAULT
    takes_none = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in where no command is named."""
        first = args[0] if args else None
        is_named = first in self.commands or first in ctx.help_option_names
        if not is_named and (args or self.takes_none):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=SiteGroup,
    help="Crawl a site: `llm-common crawl URL` is `llm-common crawl site URL`.",
    no_args_is_help=True,
)


@app.command(DEFAULT)
def crawl_site(
    url: Annotated[str | None, typer.Argument(help="Where to start.")] = None,
    max_pages: MaxPages = None,
    depth: Depth = None,
    folder: Out = None,
    strategy: Strategy = "breadth_first",
    keywords: Keywords = None,
    delay: Delay = 1.0,
    fetcher: FetcherName = "auto",
    ignore_robots: IgnoreRobots = False,
    sitemaps: Sitemaps = False,
    allow_network: Networks = None,
    resume: Resume = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Fetch the pages of a site as Markdown; an interrupted crawl goes on with --resume."""
    from . import crawl as crawling

    config = {
        "max_depth": depth,
        "strategy": strategy,
        "keywords": keywords or (),
        "per_host_delay_s": delay,
        "respect_robots": not ignore_robots,
        "use_sitemaps": sitemaps,
    }
    where, networks = Where.of(database, project), allow_network or ()
    job = crawling.Job(url, config, max_pages, resume, fetcher, networks, folder, where)
    run(
        crawling.crawl_site(job, as_json=as_json),
        f"llm-common crawl --resume {job.crawl_id} goes on",
    )


@app.command("ab")
def crawl_ab(
    truth: Annotated[
        Path, typer.Option(help='A line for each page: {"page": "a.html", "tel": ["…"], …}.')
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for ab.md, ab.json and ab.png.")
    ] = Path("ab"),
    pages: Annotated[
        Path | None, typer.Option(help="Folder of the pages, where the truth names no URLs.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many pages, the first.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Ask it for the fields of every text, such as openai/gpt-4o-mini."),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Strict limit for the model, in USD.")] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Compare plain HTTP and crawl4ai on the same pages: facts kept, tokens, seconds, cost."""
    from . import ab as comparing

    asked = comparing.Comparison(
        truth, pages, folder, limit, model, budget, Where.of(database, project)
    )
    run(comparing.compare(asked, as_json=as_json))
