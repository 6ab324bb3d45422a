"""The provider server as a process: `python -m llm_common.testing --port 0 --corpus DIR`.

Prints one line of JSON with its address and environment, and runs until SIGTERM, SIGINT or the
end of its standard input, where that is a pipe.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
from pathlib import Path

from .corpus import load_corpus
from .server import ProviderServer


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m llm_common.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--corpus", type=Path, help="folder of *.json, *.md and *.txt to search")
    parser.add_argument("--latency", type=float, default=0, help="seconds before every answer")
    parser.add_argument("--invoice", type=Path, help="file that takes the invoice as JSON lines")
    asyncio.run(serve(parser.parse_args()))


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until told to stop."""
    corpus = load_corpus(arguments.corpus) if arguments.corpus else []
    server = ProviderServer(
        corpus,
        latency_s=arguments.latency,
        invoice_file=arguments.invoice,
        port=arguments.port,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stdin = sys.stdin.fileno()
    watched = _has_a_parent(stdin)
    if watched:
        loop.add_reader(stdin, _stop_at_end, stdin, stop)
    async with server:
        ready = {"url": server.url, "environment": server.environment()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()
    if watched:
        loop.remove_reader(stdin)


def _has_a_parent(stdin: int) -> bool:
    """Whether somebody holds the other end; `/dev/null` and terminals have no end to wait for."""
    mode = os.fstat(stdin).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _stop_at_end(stdin: int, stop: asyncio.Event) -> None:
    if not os.read(stdin, 65536):
        stop.set()


if __name__ == "__main__":
    main()
