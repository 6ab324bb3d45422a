"""What a crawl is told."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ..types import Frozen

Strategy = Literal["breadth_first", "depth_first", "best_first"]


class CrawlConfig(Frozen):
    """How far a crawl goes, in which order, and how politely.

    Attributes:
        max_pages: exactly so many pages are fetched, if so many can be reached. A page is a URL
            that answered with a document; redirects, refusals by robots.txt and failures are none.
        max_depth: links from a seed, on the shortest way; None is without end.
        strategy: of the URLs that are known, the one that was found first (`breadth_first`), the
            first link of the page that was read last (`depth_first`), or the most relevant
            (`best_first`, see `relevance`) comes next.
        keywords: what `best_first` looks for.
        scope: ``host`` stays on the seeds' hosts, with or without ``www.``; ``domain`` on their
            registered domains; ``hosts`` are allowed besides.
        include: regular expressions; where there are any, a URL must match one (`re.search`).
        exclude: a URL that matches one is left out.
        use_sitemaps: start from the sitemaps of the seeds' sites too; their URLs have depth 1.
        per_host_delay_s: seconds from the start of one request to a host to that of the next; a
            Crawl-delay of its robots.txt counts if it is longer, up to `LONGEST_CRAWL_DELAY_S`.
        per_host_concurrency: requests to one host in flight.
        concurrency: requests in flight.
        respect_robots: turn it off for a site of your own only.
        retries: further tries after a failure that may pass.
        drop_parameters: query parameters that do not matter, such as `TRACKING`.
        max_alike: URLs of one shape (see `shape_of`); the rest are `OVER_LIMIT`.
    """

    max_pages: int = Field(default=100, ge=1)
    max_depth: int | None = Field(default=None, ge=0)
    strategy: Strategy = "breadth_first"
    keywords: tuple[str, ...] = ()
    scope: Literal["host", "domain"] = "host"
    hosts: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    use_sitemaps: bool = False
    per_host_delay_s: float = Field(default=1.0, ge=0)
    per_host_concurrency: int = Field(default=2, ge=1)
    concurrency: int = Field(default=16, ge=1)
    respect_robots: bool = True
    retries: int = Field(default=2, ge=0)
    drop_parameters: tuple[str, ...] = ()
    max_alike: int = Field(default=500, ge=1)

    @field_validator("include", "exclude")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if "/" in host or not host:
                raise ValueError(f"{host!r} is no host: write it as example.org")
        return tuple(host.lower() for host in hosts)

    @model_validator(mode="after")
    def _looks_for_something(self) -> CrawlConfig:
        if self.strategy == "best_first" and not self.keywords:
            raise ValueError("best_first needs keywords to look for")
        return self
