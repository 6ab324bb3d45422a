"""affordabot's bills: those of Congress, each in many versions."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import httpx

from llm_common.documents import Document, load_document
from llm_common.testing import CorpusDocument
from tests.examples.deployment import EXAMPLES
from tests.examples.load import Request
from tests.servers import execute
from tests.support import data_dir

OLD, NEW = "dual-model", "llm_common"
VERSIONS = 60
FOUND_CHARS = 4_000
"""Longer ones would keep the provider server busy for longer than a real engine takes."""


@lru_cache(maxsize=1)
def documents() -> tuple[Document, ...]:
    """Read the bills, the shortest first."""
    read = [load_document(path) for path in data_dir("bills").glob("*.xml")]
    return tuple(sorted(read, key=lambda document: len(document.text)))


def corpus() -> list[CorpusDocument]:
    """What searches find: how each bill begins."""
    return [
        CorpusDocument(d.title, f"https://congress.example/{d.sha256[:12]}", d.text[:FOUND_CHARS])
        for d in documents()
    ]


def seed(url: str) -> None:
    """Fill the host's table by the host's own command, and add amended versions of each bill."""
    files = sorted(data_dir("bills").glob("*.xml"))
    command = [sys.executable, "-m", "backend.seed", *map(str, files)]
    subprocess.run(command, cwd=EXAMPLES / "affordabot", env={"DATABASE_URL": url}, check=True)
    execute(
        url,
        "INSERT INTO bills SELECT id || ' v' || n, jurisdiction, title || ' (version ' || n || ')',"
        f" text FROM bills, generate_series(1, {VERSIONS}) AS n",
    )


def versions(chosen: Sequence[Document], numbers: range, *, seed: int = 1) -> list[str]:
    """Return the ids of these versions of bills, in a mixed order that is always the same."""
    ids = [f"{d.id} v{n}" for d, n in itertools.product(chosen, numbers)]
    random.Random(seed).shuffle(ids)
    return ids


def analyses(ids: Iterable[str]) -> Iterator[Request]:
    """Ask for an analysis of each."""
    for bill_id in ids:
        yield Request(bill_id, "/analyze", {"bill_id": bill_id}, read)


def read(response: httpx.Response) -> tuple[str, Any]:
    """Take an analysis apart; one that says nothing is a failure."""
    analysis = response.json()["analysis"]
    if not analysis["summary"] or not analysis["impacts"]:
        raise ValueError("an analysis without content")
    return analysis["written_by"], analysis


def searches(number: int, *, seed: int = 1) -> Iterator[Request]:
    """Search as admins do: for a few things again and again, for others now and then."""
    topics = [" ".join(document.title.split()[:8]) for document in documents()]
    questions = [f"{topic} {about}" for topic in topics for about in ("cost", "votes", "history")]
    weights = [1 / rank for rank in range(1, len(questions) + 1)]
    for query in random.Random(seed).choices(questions, weights, k=number):
        yield Request(query, "/search", {"query": query}, read_results)


def read_results(response: httpx.Response) -> tuple[str, Any]:
    """Take what was found apart."""
    results = response.json()["results"]
    if not results:
        raise ValueError("nothing was found")
    return NEW, results
