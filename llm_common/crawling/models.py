"""What a fetch and a page are, and the closed set of ways in which a URL can end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ..types import Fault, Frozen

MOST_REDIRECTS = 10


class Reason(StrEnum):
    """How a URL ended; `fault_of` says whose doing it was."""

    FETCHED = "fetched"
    REDIRECTED = "redirected"

    INVALID_URL = "invalid_url"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    PRIVATE_ADDRESS = "private_address"

    ROBOTS_DISALLOWED = "robots_disallowed"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BROKEN_ANSWER = "broken_answer"
    REDIRECT_LOOP = "redirect_loop"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TYPE = "unsupported_type"
    EMPTY = "empty"
    ENCRYPTED = "encrypted"
    DAMAGED = "damaged"
    NO_TEXT = "no_text"
    TOO_COMPLEX = "too_complex"

    OUT_OF_SCOPE = "out_of_scope"
    TOO_DEEP = "too_deep"
    OVER_LIMIT = "over_limit"

    BROWSER_FAILED = "browser_failed"
    CANCELLED = "cancelled"


_NOBODY = frozenset(
    {Reason.FETCHED, Reason.REDIRECTED, Reason.OUT_OF_SCOPE, Reason.TOO_DEEP, Reason.OVER_LIMIT}
)
_INPUT = frozenset({Reason.INVALID_URL, Reason.UNSUPPORTED_SCHEME, Reason.PRIVATE_ADDRESS})
_OURS = frozenset({Reason.BROWSER_FAILED, Reason.CANCELLED})

PASSING = frozenset(
    {
        Reason.RATE_LIMITED,
        Reason.SERVER_ERROR,
        Reason.TIMEOUT,
        Reason.UNREACHABLE,
        Reason.BROKEN_ANSWER,
        Reason.BROWSER_FAILED,
    }
)
"""Failures that another try may not have."""


def fault_of(reason: Reason) -> Fault:
    """Say whose doing an outcome was: the caller's input, the site's, ours, or nobody's."""
    if reason in _NOBODY:
        return "none"
    if reason in _INPUT:
        return "input"
    return "ours" if reason in _OURS else "site"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one URL gave; a failure is a reason here, not an exception.

    Attributes:
        url: what was asked for.
        final_url: where the answer came from, after redirects.
        reason: `FETCHED`, or why there is no body to use.
        status: the last HTTP status; None when there was no answer.
        body: decompressed bytes; empty unless `FETCHED`.
        headers: of the last answer, names in lower case.
        redirects: every URL on the way from `url` to `final_url`, without the last.
        redirect_to: the target of a redirect that was not followed.
        retry_after_s: what the site asked for, in seconds.
        elapsed_s: from the request to the last byte.
        fetcher: `http` or `browser`.
    """

    url: str
    final_url: str
    reason: Reason
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    redirects: tuple[str, ...] = ()
    redirect_to: str | None = None
    retry_after_s: float | None = None
    elapsed_s: float = 0.0
    fetcher: str = "http"

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty when none was given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Fetcher(Protocol):
    """The seam to the web: one URL in, one outcome out."""

    @property
    def name(self) -> str:
        """`http`, `browser` or `auto`."""
        ...

    async def fetch(self, url: str, *, hops: int = MOST_REDIRECTS) -> Fetched:
        """Fetch one URL with GET; raises nothing about the URL or its site.

        Args:
            url: absolute, http or https.
            hops: redirects that may be followed; with 0 a redirect is the outcome `REDIRECTED`.
        """
        ...

    async def aclose(self) -> None:
        """Close connections and processes."""
        ...


class Link(Frozen):
    """A link of a page: absolute URL without fragment, and the words that it stands on."""

    url: str
    text: str = ""
    rel: str = ""


class PageContent(Frozen):
    """What a page says.

    Attributes:
        url: where it came from, if known.
        reason: `FETCHED`, or why there is no text, such as `ENCRYPTED` or `TOO_COMPLEX`.
        markdown: the main content, pruned: for prose, and cheap for a model.
        text: all of it, with what JSON-LD, microdata, `tel:` and `mailto:` say: for contacts.
        links: in the order of the page, each URL once.
        language: as the page declares it, such as ``en`` or ``en-US``.
        published, modified: ISO 8601 dates, where the page names them.
        canonical_url: absolute, where the page names it.
    """

    url: str | None = None
    reason: Reason = Reason.FETCHED
    title: str = ""
    markdown: str = ""
    text: str = ""
    links: tuple[Link, ...] = ()
    language: str | None = None
    published: str | None = None
    modified: str | None = None
    canonical_url: str | None = None
