"""How an analysis looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.padding import Padding

from .common import out

MARK = {
    "verified": "[green]✓[/green]",
    "repaired": "[yellow]≈[/yellow]",
    "unverified": "[red]✗[/red]",
}


def show_analysis(analysis: Mapping[str, Any], quality: Any = None) -> None:
    """Print an analysis: summary, impacts with their quotes, sources."""
    out.print(Padding(escape(analysis["summary"]), (0, 0, 1, 2)))
    for number, impact in enumerate(analysis["impacts"], 1):
        state = "" if impact["verified"] else "  [red]unverified[/red]"
        out.print(f"  [bold]{number}. {escape(impact['title'])}[/bold]{state}")
        out.print(Padding(escape(impact["description"]), (0, 0, 0, 5)))
        for quote in impact["evidence"]:
            mark, words = MARK[quote["verdict"]], escape(quote["quote"])
            out.print(Padding(f"{mark} “{words}” [dim]{quote['source_id']}[/dim]", (0, 0, 0, 5)))
    cited = [s for s in analysis["sources"] if s["quotes"]]
    out.print()
    for source in cited:
        title, url = escape(source["title"]), source["url"] or ""
        out.print(f"  [dim]{source['id']}[/dim] {title} [dim]{url}[/dim]")
    scored = "" if quality is None else f", quality {quality}"
    out.print(f"  confidence {analysis['confidence']}{scored}\n")
