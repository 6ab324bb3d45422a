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

import uvicorn

from llm_common.database import embedded
from llm_common.database.migrations import up


def main() -> None:
    """Fill in what the environment lacks, say so, and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m backend", description=__doc__)
    parser.add_argument("--port", type=int, default=8001, help="0 takes a free one")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if not (os.getenv("DATABASE_URL") or os.getenv("SUPABASE_URL")):
        asyncio.run(use_embedded())
    with providers():
        uvicorn.run("backend.main:app", port=options.port, workers=options.workers)


async def use_embedded() -> None:
    """Start the embedded Postgres, and bring its schema up."""
    url = await embedded.embedded_url()
    await up(url)
    os.environ["DATABASE_URL"] = url
    say("No DATABASE_URL and no SUPABASE_URL: the embedded Postgres is used.")


@contextmanager
def providers() -> Iterator[None]:
    """Run the offline stand-in for models, unless there is a key."""
    if os.getenv("OPENROUTER_API_KEY"):
        yield
        return
    say("No OPENROUTER_API_KEY: an offline stand-in answers, with your own sentences.")
    command = [sys.executable, "-m", "llm_common.testing"]
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
