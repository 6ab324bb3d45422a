"""A server on loopback that answers as model providers and search engines do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from ..errors import InvalidInputError
from .corpus import CorpusDocument, Find, search
from .endpoints import BASES, ENDPOINTS, KEYLESS, Endpoint
from .invoice import Invoice, PriceList, ServerPrice
from .records import RecordedRequest
from .replies import Brain, Reply, reply_to
from .script import Item, Match, Script

if TYPE_CHECKING:
    from aiohttp import web

MAX_BODY = 64 * 1024 * 1024


class ProviderServer:
    """A fake of model providers and search engines, on a free port of 127.0.0.1.

    Requests get scripted answers and faults first, then those of `respond`; all others are answered
    by the default model `offline/extractive` and by searches over `corpus`. Use it as ``async
    with``, or call `start` and `aclose`.

    Args:
        corpus: what searches can find, or a search engine of the caller's.
        respond: a model of the caller's; what it leaves at None is answered by the default.
        latency_s: seconds before the first byte of every answer.
        prices: by ``provider/model`` or model, in place of the library's price data.
        invoice_file: takes every invoice line as JSON, before the client sees the answer.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        corpus: Sequence[CorpusDocument] | Find = (),
        *,
        respond: Callable[[RecordedRequest], Item | None] | None = None,
        latency_s: float = 0,
        prices: Mapping[str, ServerPrice] | None = None,
        invoice_file: Path | None = None,
        port: int = 0,
    ) -> None:
        self.latency_s = latency_s
        self.requests: list[RecordedRequest] = []
        self.invoice = Invoice(invoice_file)
        find = corpus if callable(corpus) else partial(search, corpus)
        self._brain = Brain(find, PriceList(prices or {}))
        self._script = Script()
        self._respond = respond
        self._port = port
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    @property
    def url(self) -> str:
        """Address of the server, without a path."""
        return f"http://127.0.0.1:{self._port}"

    def base_url(self, provider: str) -> str:
        """Return the base URL of a provider or engine, as its clients take it.

        Raises:
            InvalidInputError: the server does not play that provider.
        """
        if provider not in BASES:
            raise InvalidInputError(f"no fake of {provider!r}: use {', '.join(BASES)}")
        return self.url + BASES[provider]

    def environment(self) -> dict[str, str]:
        """Return the `<NAME>_BASE_URL` and `<NAME>_API_KEY` of everything served; keys are fake."""
        variables: dict[str, str] = {}
        for name in BASES:
            variables[f"{name.upper()}_BASE_URL"] = self.base_url(name)
            if name not in KEYLESS:
                variables[f"{name.upper()}_API_KEY"] = f"fake-key-of-{name}"
        return variables

    def script(self, *items: Item, match: Match = None) -> None:
        """Queue answers and faults; each serves the first request that matches.

        Args:
            match: a predicate on the request, or a part of its path or model; None is any.
        """
        self._script.add(items, match)

    @property
    def unused(self) -> int:
        """How many scripted items no request has consumed."""
        return len(self._script)

    async def start(self) -> Self:
        """Listen; returns once requests are accepted."""
        from aiohttp import web

        application = web.Application(client_max_size=MAX_BODY)
        for path, endpoint in ENDPOINTS.items():
            application.router.add_route(endpoint.method, path, partial(self._handle, endpoint))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def aclose(self) -> None:
        """Stop at once; answers that are held back are dropped."""
        self._closing.set()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        self.invoice.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _handle(self, endpoint: Endpoint, http: web.Request) -> web.StreamResponse:
        request = self._record(http, endpoint.provider, await http.read())
        item = self._script.take(request)
        if item is None and self._respond:
            item = self._respond(request)
        reply = reply_to(request, endpoint, item, self._brain)
        if reply.charge:
            self.invoice.book(reply.charge)
        await self._wait(self.latency_s if reply.latency_s is None else reply.latency_s)
        await self._wait(reply.silence_s)
        return await _send(http, request.id, reply)

    def _record(self, http: web.Request, provider: str, raw: bytes) -> RecordedRequest:
        body = dict(http.query) if http.method == "GET" else _decode(raw)
        named = cast("Mapping[str, Any]", body if isinstance(body, dict) else {})
        recorded = RecordedRequest(
            id=f"req-{len(self.requests) + 1}",
            provider=provider,
            path=http.path,
            model=str(named.get("model") or http.match_info.get("model", "")),
            headers={name.lower(): value for name, value in http.headers.items()},
            body=body,
        )
        self.requests.append(recorded)
        return recorded

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


async def _send(http: web.Request, request_id: str, reply: Reply) -> web.StreamResponse:
    from aiohttp import web

    names = {"x-request-id": request_id, "request-id": request_id}
    response = web.StreamResponse(status=reply.status, headers={**names, **reply.headers})
    response.content_type = reply.content_type
    if reply.content_type != "text/event-stream":
        response.content_length = sum(len(chunk) for chunk in reply.chunks)
    if reply.stop_after == 0:
        _hang_up(http)
        return response
    try:
        await response.prepare(http)
        for chunk in reply.chunks[: reply.stop_after]:
            await response.write(chunk)
        if reply.stop_after is not None:
            _hang_up(http)
            return response
        await response.write_eof()
    except ConnectionError:  # the client went away first, which clients may do
        return response
    return response


def _hang_up(http: web.Request) -> None:
    """Close without a word; what was written before still leaves the socket."""
    if http.transport:
        http.transport.close()
