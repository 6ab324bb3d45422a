"""The wire for every other provider: one `litellm.Router` that executes and decides nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import warnings
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from weakref import WeakKeyDictionary

from ..errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ContextLengthError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
)
from ..routing import Deployment
from . import gemini_embeddings
from .base import ChatRequest, Chunk, EmbedRequest, Reply, Vectors
from .connections import lost_connection
from .embedding_format import embed_arguments, vectors_of
from .failures import Refusal, error_type, failure, refused, retry_after_s
from .openai_format import arguments, reply_of
from .tap import TAPPED, Tap

ERRORS: Mapping[str, type[CallError]] = {
    "AuthenticationError": AuthenticationError,
    "PermissionDeniedError": AuthenticationError,
    "NotFoundError": ModelNotFoundError,
    "RateLimitError": RateLimitedError,
    "PaymentRequiredError": QuotaExhaustedError,
    "BudgetExceededError": QuotaExhaustedError,
    "Timeout": ProviderTimeoutError,
    "ServiceUnavailableError": ProviderUnavailableError,
    "BadGatewayError": ProviderUnavailableError,
    "InternalServerError": ProviderUnavailableError,
    "MidStreamFallbackError": BrokenResponseError,
    "APIResponseValidationError": BrokenResponseError,
    "JSONSchemaValidationError": BrokenResponseError,
    # What litellm raises when it doesn't know better, also for an answer that it can't read.
    "APIConnectionError": BrokenResponseError,
    "APIError": BrokenResponseError,
    "OpenAIError": BrokenResponseError,
    "MockException": BrokenResponseError,
    "ContextWindowExceededError": ContextLengthError,
    "ContentPolicyViolationError": RefusedError,
    "RejectedRequestError": RefusedError,
    "GuardrailRaisedException": RefusedError,
    "BlockedPiiEntityError": RefusedError,
    "ModifyResponseException": RefusedError,
    "SensitiveDataRouteException": RefusedError,
    "BadRequestError": BadRequestError,
    "InvalidRequestError": BadRequestError,
    "UnprocessableEntityError": BadRequestError,
    "UnsupportedParamsError": BadRequestError,
    "ImageFetchError": BadRequestError,
    "VectorStoreSearchError": BadRequestError,
    "LiteLLMUnknownProvider": BadRequestError,
    "ModelNotMappedError": ModelNotFoundError,
}
"""Every exception class of litellm by name -> ours."""

UNSENT = r"coroutine '(AnthropicChatCompletion|VertexLLM)\..*' was never awaited"
"""The warning of Python about litellm's coroutines that have not been sent."""


class LiteLLMWire:
    """Carries requests through litellm; one instance serves a process.

    A router and its transports are kept per event loop until `aclose`.
    """

    def __init__(self) -> None:
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    async def send(
        self, deployment: Deployment, request: ChatRequest, *, timeout_s: float
    ) -> Reply:
        """Send one request; see `Provider.send`."""
        tap = _tap(deployment)
        values = arguments(deployment.model, request)
        answer = await self._call("acompletion", deployment, values, timeout_s, tap)
        reply = reply_of(deployment, answer.model_dump(), None)
        return replace(reply, usage=tap.usage) if tap else reply

    async def stream(
        self, deployment: Deployment, request: ChatRequest, *, timeout_s: float
    ) -> AsyncGenerator[Chunk, None]:
        """Send one request and yield the chunks of its answer; see `Provider.stream`."""
        tap = _tap(deployment)
        values = arguments(deployment.model, request, stream=True)
        answer = await self._call("acompletion", deployment, values, timeout_s, tap)
        try:
            async for chunk in answer:
                if tap and tap.usage:
                    yield tap.usage
                yield {**chunk.model_dump(), "usage": None}
        except Exception as error:  # noqa: BLE001 - no foreign exception gets through
            raise _told(deployment, error, tap) from None
        finally:
            await answer.aclose()
            if tap is not None:
                # litellm leaves the connection of a broken stream to the garbage collector.
                await tap.hang_up()
        if tap is None:
            yield _reported(answer.chunks)
        elif tap.usage is None:
            # litellm calls an answer finished that only stopped.
            raise failure(BrokenResponseError, deployment, status=200)

    async def embed(
        self, deployment: Deployment, request: EmbedRequest, *, timeout_s: float
    ) -> Vectors:
        """Send one request for embeddings; see `Provider.embed`."""
        if deployment.provider == "gemini":
            await warm()
            return await gemini_embeddings.embed(
                self._line().transport, deployment, request, timeout_s
            )
        values = embed_arguments(deployment.model, request)
        answer = await self._call("aembedding", deployment, values, timeout_s, None)
        return vectors_of(deployment, answer.model_dump())

    async def _call(
        self,
        method: str,
        deployment: Deployment,
        values: dict[str, Any],
        timeout_s: float,
        tap: Tap | None,
    ) -> Any:
        await warm()
        line = self._line()
        # litellm's MCP gateway would send requests of its own, by a package that we lack.
        options: dict[str, Any] = {"_skip_mcp_handler": True, "disable_fallbacks": True}
        if tap is not None:
            options["client"] = line.handler(tap)
        try:
            async with asyncio.timeout(timeout_s):
                return await getattr(line.router, method)(
                    model=line.name_of(deployment),
                    timeout=timeout_s,
                    num_retries=0,
                    **options,
                    **values,
                )
        except BaseException as error:
            if tap is not None:
                await tap.hang_up()
            if isinstance(error, TimeoutError):
                raise _too_late(deployment, tap) from None
            if isinstance(error, Exception):
                raise _told(deployment, error, tap) from None
            raise

    async def aclose(self) -> None:
        """Close the transports of this event loop."""
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None and line.pid == os.getpid():
            await line.aclose()

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None or line.pid != os.getpid():
            line = self._lines[loop] = _Line()
        return line


class _Line:
    """The router of one event loop; deployments join it when they are first used."""

    def __init__(self) -> None:
        from litellm import Router  # pyright: ignore[reportPrivateImportUsage]

        from .one_shot import transport

        self.pid = os.getpid()
        # Any, because litellm's types are partly unknown.
        self.router: Any = Router(
            model_list=[], num_retries=0, max_fallbacks=0, disable_cooldowns=True
        )
        self.transport = transport()
        self._names: dict[tuple[str, str, str | None, str], str] = {}

    def handler(self, tap: Tap) -> Any:
        """Make the HTTP handler of one call."""
        from .one_shot import OneShotHandler

        return OneShotHandler(self.transport, tap)

    def name_of(self, deployment: Deployment) -> str:
        """Return the router's name for a deployment."""
        model = f"{deployment.provider}/{deployment.model.id}"
        identity = (deployment.provider, model, deployment.base_url, deployment.key)
        if identity not in self._names:
            name = f"{deployment.alias}:{len(self._names)}"
            self._add(name, model, deployment)
            self._names[identity] = name
        return self._names[identity]

    def _add(self, name: str, model: str, deployment: Deployment) -> None:
        from litellm.types import router  # pyright: ignore[reportMissingTypeStubs]

        keyless = deployment.key_alias == "none"
        params = router.LiteLLM_Params(
            model=model,
            api_key=None if keyless else deployment.key,
            api_base=deployment.base_url,
            max_retries=0,
        )
        self.router.add_deployment(router.Deployment(model_name=name, litellm_params=params))

    async def aclose(self) -> None:
        """Close the transports and take the router's hooks out of litellm's global lists."""
        self.router.discard()
        await self.transport.aclose()


def _tap(deployment: Deployment) -> Tap | None:
    return Tap(deployment.provider) if deployment.provider in TAPPED else None


def _too_late(deployment: Deployment, tap: Tap | None) -> CallError:
    error = failure(ProviderTimeoutError, deployment)
    if tap is not None and not tap.sent:
        error.billed = False  # the time went by while litellm wrote the request
    return error


def _told(deployment: Deployment, error: Exception, tap: Tap | None) -> CallError:
    """Type an error by the provider's own answer, where there was one: litellm rewrites them."""
    if tap is not None and tap.refused is not None:
        return refused(deployment, *tap.refused)
    told = call_error(deployment, error)
    ours = isinstance(told, BadRequestError | ModelNotFoundError | AuthenticationError)
    if tap is None or tap.sent != ours:
        return told
    if tap.sent:
        # The provider refused nothing: litellm could not read an answer that is paid for.
        return failure(BrokenResponseError, deployment, status=200)
    # litellm could not write the request: it would fail again, and nobody was asked.
    return failure(BadRequestError, deployment)


def _reported(chunks: Sequence[Any]) -> Chunk:
    """Find the usage that the provider named; where it named none, litellm makes one up."""
    named = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None) is not None]
    return {"usage": named[-1].model_dump()} if named else {}


async def warm() -> None:
    """Import litellm in a thread: it takes seconds and would stop the event loop."""
    await asyncio.to_thread(_import)


def _import() -> None:
    # Without this the import fetches a price map from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    # It uses what pydantic has deprecated; where a host makes warnings errors, streams would break.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"litellm\.")
    # litellm sets this one at its import; it is gone where a host sets the filters anew after that.
    warnings.filterwarnings("ignore", message=".*`ReadOnly` qualifier.*", category=UserWarning)
    # It writes the request in a thread, and a call that ends meanwhile leaves its sender behind.
    warnings.filterwarnings("ignore", message=UNSENT, category=RuntimeWarning)
    with warnings.catch_warnings():
        # Its types for streams are built when they are first used, and pydantic warns of them.
        warnings.simplefilter("ignore")
        litellm.types.utils.Delta()
    # These write the provider's error text, which may quote the prompt or the key, even at ERROR.
    # A host that wants them sets their level itself.
    for name in ("LiteLLM", "LiteLLM Router"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)


def call_error(deployment: Deployment, error: Exception) -> CallError:
    """Map an exception of litellm, or of a client inside it, to ours."""
    kind = lost_connection(error) or _kind(error)
    status = cast("int | None", getattr(error, "status_code", None))
    if kind in (BrokenResponseError, ProviderTimeoutError) or status == 408:
        status = None  # litellm makes up a status where no answer had one
    mapped = failure(
        kind,
        deployment,
        status=status,
        retry_after_s=retry_after_s(getattr(error, "litellm_response_headers", None), time.time()),
    )
    if status is not None and status >= 400:
        mapped.billed = False
    return mapped


def _kind(error: Exception) -> type[CallError]:
    names = (base.__name__ for base in type(error).__mro__)
    kind = next((ERRORS[name] for name in names if name in ERRORS), BrokenResponseError)
    if kind is BadRequestError:
        return error_type(400, Refusal(message=str(error)))
    return kind
