"""`llm-common doctor`: is this installation able to work, and where does each setting come from?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from rich.markup import escape

from .. import settings
from ..crawling.chromium import executable
from ..crawling.litellm_check import cure, overwritten
from ..database import connect, handshake
from ..errors import ConfigurationError, LLMCommonError
from ..pricing import prices_version
from ..routing import load_registry
from .common import EMBEDDED, Where, out, print_json

State = Literal["ok", "note", "problem"]
SECRET = ("database_url", "supabase_url", "alert_webhook")
"""Settings of which only the source is shown."""
SEARCH_SETTINGS = (
    "ZAI_API_KEY", "SERPER_API_KEY", "TAVILY_API_KEY", "BRAVE_API_KEY", "EXA_API_KEY",
    "SEARXNG_BASE_URL",
)  # fmt: skip
"""What a search engine needs; SearXNG takes an address in place of a key."""
MARK = {"ok": "[green]✓[/green]", "note": "[yellow]·[/yellow]", "problem": "[red]✗[/red]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    state: State
    about: str
    text: str


async def doctor(where: Where, *, as_json: bool) -> None:
    """Print every finding.

    Raises:
        ConfigurationError: at least one is a problem.
    """
    findings = [
        *_settings(where),
        *_keys(),
        await _database(where),
        _prices(),
        _browser(),
        *_packages(),
    ]
    if as_json:
        print_json([{"state": f.state, "about": f.about, "text": f.text} for f in findings])
    for finding in findings if not as_json else ():
        out.print(f"{MARK[finding.state]} {finding.about:<14} {escape(finding.text)}")
    problems = sum(finding.state == "problem" for finding in findings)
    if problems:
        raise ConfigurationError(f"doctor found {problems} problem{'s' if problems > 1 else ''}")


def _settings(where: Where) -> Iterator[Finding]:
    """Name each setting and its source; a URL is shown without its password."""
    for name in settings.ENVIRONMENT:
        found = settings.setting(name)
        if found.value is None:
            continue
        value = "set" if name in SECRET else found.value
        yield Finding("ok", name, f"{value} (from {found.source})")
    yield Finding("ok", "project", f"{where.project} labels rows that this command writes")


def _keys() -> Iterator[Finding]:
    registry = load_registry()
    present = [
        name
        for spec in registry.providers.values()
        if spec.key_env and not spec.keyless
        for name in sorted(os.environ)
        if name == spec.key_env or name.startswith(f"{spec.key_env}_")
    ]
    yield (
        Finding("ok", "model keys", ", ".join(present))
        if present
        else Finding("note", "model keys", "none: set OPENROUTER_API_KEY or another, or --offline")
    )
    engines = [name for name in SEARCH_SETTINGS if os.environ.get(name)]
    yield Finding("ok" if engines else "note", "search keys", ", ".join(engines) or "none")


async def _database(where: Where) -> Finding:
    try:
        db = connect(where.database)
        if where.database == EMBEDDED:
            await where.tracker()
        await handshake(db)
        identity = db.identity
        await db.aclose()
    except LLMCommonError as error:
        return Finding("problem", "database", str(error))
    return Finding("ok", "database", f"{identity}, schema known")


def _prices() -> Finding:
    return Finding("ok", "prices", f"version {prices_version()}")


def _packages() -> Iterator[Finding]:
    """Find packages that overwrite one another: metadata and `pip check` do not notice it."""
    for name in ("litellm", "openai", "instructor", "pydantic", "psycopg", "supabase"):
        yield Finding("ok", name, version(name))
    if overwritten():
        yield Finding("problem", "litellm", cure())


def _browser() -> Finding:
    try:
        crawl4ai = version("crawl4ai")
    except PackageNotFoundError:
        return Finding("note", "browser", "none: pages that need one want llm-common[crawl]")
    return Finding("ok", "browser", f"{executable() or 'Playwright’s own'}, crawl4ai {crawl4ai}")
