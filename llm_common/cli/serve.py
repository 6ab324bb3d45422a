"""`llm-common serve`."""

from __future__ import annotations

import asyncio
import getpass
import logging
import secrets
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..errors import ConfigurationError, InvalidInputError
from ..integrations.fastapi import local_app
from .common import Where, err, print_json
from .enrich import Using, pipeline_of

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANY = ("0.0.0.0", "::")  # noqa: S104 - only if somebody says so
GRACE_S = 1
"""What a stream that goes on for ever is given at the end."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens."""

    host: str
    port: int


async def serve(where: Where, using: Using, at: Address, *, as_json: bool) -> None:
    """Serve the routes and the page until Ctrl-C.

    Raises:
        ConfigurationError: uvicorn is not installed.
        InvalidInputError: the address can't be had.
    """
    uvicorn = _uvicorn()
    token = secrets.token_urlsafe(32)
    with _bound(at) as listening:
        port = listening.getsockname()[1]
        async with pipeline_of(where, using) as pipeline:
            user = _user()
            app = local_app(pipeline, token=token, user=user, port=port, model=using.model)
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S
            )
            server = _server(uvicorn, config)
            _stopped_by_signals(server)
            _say(at.host, port, token, as_json=as_json)
            await server.serve(sockets=[listening])


def _uvicorn() -> Any:
    try:
        return import_module("uvicorn")
    except ImportError as error:
        raise ConfigurationError("serve needs a server: pip install uvicorn") from error


@contextmanager
def _bound(at: Address) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    try:
        listening = socket.create_server((at.host, at.port), family=family)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(
            f"{at.host}:{at.port} can't be listened on ({said}): use another --port"
        ) from None
    with listening:
        yield listening


def _server(uvicorn: Any, config: Any) -> Any:
    class Server(uvicorn.Server):
        """uvicorn's, without its way with signals: after its end it would raise them again."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    return Server(config)


def _stopped_by_signals(server: Any) -> None:
    def stop() -> None:
        # Streams are cut off, and that is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "local"


def _say(host: str, port: int, token: str, *, as_json: bool) -> None:
    shown = "127.0.0.1" if host in ANY else f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{port}"
    url = f"{base}/enter?token={token}"
    if as_json:
        print_json({"url": url, "base_url": base, "token": token})
    else:
        print(url, flush=True)  # noqa: T201 - one line, as it is: no console may wrap it
    if host not in LOOPBACK:
        err.print("[yellow]others on the network can read what plain HTTP carries[/yellow]")
