"""A provider in its least: one fixed answer to every POST, whole or as a stream, on loopback.

It runs as a process of its own, so that its work is not counted as a client's, and does next to
nothing, so that it does not hold a client up.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORDS = 20
PAUSE_S = 0.25
"""Of a stream: so many words, with a pause after each."""
USAGE = {"prompt_tokens": 14, "completion_tokens": 1, "total_tokens": 15}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
        }
    ],
    "usage": USAGE,
}


def _chunk(delta: dict[str, str], finish: str | None = None, usage: object = None) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {
        **ANSWER,
        "object": "chat.completion.chunk",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _whole() -> bytes:
    body = json.dumps(ANSWER).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


WHOLE = _whole()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = _chunk({}, "stop") + _chunk({}, usage=USAGE) + b"data: [DONE]\n\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
            body = await reader.readexactly(int(length))
            if b'"stream":true' in body or b'"stream": true' in body:
                await _stream(writer)
            else:
                writer.write(WHOLE)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _stream(writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    for _ in range(WORDS):
        writer.write(_framed(_chunk({"content": "word "})))
        await asyncio.sleep(PAUSE_S)
    writer.write(_framed(STREAM_END) + b"0\r\n\r\n")
    await writer.drain()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    # It ends with whoever started it, whatever connections are still open.
    os._exit(0)


@contextmanager
def running() -> Iterator[None]:
    """Run the server, with the environment pointing clients of OpenAI there."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(process.stdout.readline())
        os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        os.environ["OPENAI_API_KEY"] = "a-key"
        yield
    finally:
        process.communicate(timeout=10)


if __name__ == "__main__":
    asyncio.run(_main())
