"""Starts the host on this machine: `python -m backend`, from the folder above."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import uvicorn

from llm_common.database import embedded
from llm_common.database.migrations import up

from .bills import seed
from .models import Bill

KEYS = ("OPENROUTER_API_KEY", "ZAI_API_KEY")


def main() -> None:
    """Fill in what the environment lacks, say so, and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m backend", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if not (os.getenv("DATABASE_URL") or os.getenv("SUPABASE_URL")):
        asyncio.run(use_embedded())
    with providers():
        uvicorn.run("backend.main:app", port=options.port, workers=options.workers)


async def use_embedded() -> None:
    """Start the embedded Postgres, bring its schema up, and put the sample bill in."""
    url = await embedded.embedded_url()
    await up(url)
    await asyncio.to_thread(seed, url, [sample_bill()])
    os.environ["DATABASE_URL"] = url
    say("No DATABASE_URL and no SUPABASE_URL: the embedded Postgres is used.")


def sample_bill() -> Bill:
    """Return the bill that llm_common brings along."""
    text = (files("llm_common") / "data" / "demo" / "bill.md").read_text(encoding="utf-8")
    title = text.partition("\n")[0].strip("# ")
    return Bill(id="SB-9", jurisdiction="Sample State", title=title, text=text)


@contextmanager
def providers() -> Iterator[None]:
    """Run the offline stand-in for models and search, unless there are keys for both."""
    missing = [key for key in KEYS if not os.getenv(key)]
    if not missing:
        yield
        return
    say(f"No {' and no '.join(missing)}: an offline stand-in answers, with sentences of the bill.")
    corpus = str(files("llm_common") / "data" / "demo")
    command = [sys.executable, "-m", "llm_common.testing", "--corpus", corpus]
    # It ends with its standard input, so also when this process is killed.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        os.environ.update(json.loads(process.stdout.readline())["environment"])
        yield
    finally:
        process.communicate(timeout=10)


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
