"""Our client for language models: providers, retries, fallbacks, history, streaming."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import httpx

logger = logging.getLogger("prime_radiant.llm")

PROVIDER_URLS = {
    "openrouter": "https://openrouter.ai/api/v1",
    "openai": "https://api.openai.com/v1",
}

# (provider, model), the preferred one first.
MODEL_PRIORITY = [
    ("openrouter", "openai/gpt-4-turbo"),
    ("openrouter", "google/gemini-pro-1.5"),
    ("openai", "gpt-3.5-turbo"),
]

MODEL_CONTEXT = {
    "openai/gpt-4-turbo": 128_000,
    "google/gemini-pro-1.5": 1_000_000,
    "gpt-3.5-turbo": 16_000,
}

MAX_RETRIES = 3
BASE_DELAY = 0.5
MAX_DELAY = 8.0
REQUEST_TIMEOUT = 60.0
MAX_TOKENS = 1_000
MAX_HISTORY = 20
MAX_USERS = 10_000
CHARS_PER_TOKEN = 4

SYSTEM_PROMPT = (
    "You are a careful assistant for personal finance. Explain in plain words. "
    "Say when a question needs a professional."
)


class LLMError(Exception):
    """Something went wrong with a model."""


class LLMTimeoutError(LLMError):
    """No answer in time."""


class LLMRateLimitError(LLMError):
    """Too many requests."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LLMAuthError(LLMError):
    """The key is missing or wrong."""


class LLMResponseError(LLMError):
    """The answer can't be read."""


@dataclass
class Message:
    """One message of a conversation."""

    role: str
    content: str

    def to_dict(self) -> dict[str, str]:
        """Return it as the API takes it."""
        return {"role": self.role, "content": self.content}


@dataclass
class ChatResult:
    """An answer, and what the provider counted."""

    text: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency: float = 0.0


@dataclass
class ProviderConfig:
    """Where a provider is, and the key for it."""

    name: str
    base_url: str
    api_key: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_env(cls, name: str) -> ProviderConfig:
        """Read a provider from the environment."""
        config = cls(
            name=name,
            base_url=os.getenv(f"{name.upper()}_BASE_URL", PROVIDER_URLS[name]),
            api_key=os.getenv(f"{name.upper()}_API_KEY", ""),
        )
        if name == "openrouter":
            config.headers["X-Title"] = "prime_radiant"
        return config


class ConversationStore:
    """Keeps the last messages of each user, in this process."""

    def __init__(self, max_history: int = MAX_HISTORY, max_users: int = MAX_USERS) -> None:
        self.max_history = max_history
        self.max_users = max_users
        self._messages: OrderedDict[str, list[Message]] = OrderedDict()

    def get(self, user_id: str) -> list[Message]:
        """Return the messages of a user, oldest first."""
        messages = self._messages.get(user_id, [])
        if messages:
            self._messages.move_to_end(user_id)
        return list(messages)

    def add(self, user_id: str, question: str, answer: str) -> None:
        """Add a question with its answer."""
        messages = self._messages.setdefault(user_id, [])
        messages.append(Message("user", question))
        messages.append(Message("assistant", answer))
        del messages[: -self.max_history]
        self._messages.move_to_end(user_id)
        while len(self._messages) > self.max_users:
            self._messages.popitem(last=False)

    def clear(self, user_id: str) -> None:
        """Forget a user."""
        self._messages.pop(user_id, None)


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has."""
    return len(text) // CHARS_PER_TOKEN + 1


def fit_to_context(messages: list[Message], model: str) -> list[Message]:
    """Drop the oldest messages until the rest fits the model; the system prompt stays."""
    limit = MODEL_CONTEXT.get(model, 8_000) - MAX_TOKENS
    system, rest = messages[:1], messages[1:]
    total = sum(estimate_tokens(m.content) for m in messages)
    while len(rest) > 1 and total > limit:
        total -= estimate_tokens(rest[0].content)
        rest = rest[1:]
    return system + rest


def backoff_delay(attempt: int, error: LLMError) -> float:
    """Return how long to wait before the next attempt."""
    if isinstance(error, LLMRateLimitError) and error.retry_after is not None:
        return min(error.retry_after, MAX_DELAY)
    delay = min(BASE_DELAY * 2**attempt, MAX_DELAY)
    return delay * (0.5 + random.random() / 2)  # noqa: S311


class PrimeLLMClient:
    """Asks models for users, and remembers what was said."""

    def __init__(self, store: ConversationStore | None = None) -> None:
        self.store = store or ConversationStore()
        self.http = httpx.AsyncClient(timeout=REQUEST_TIMEOUT)
        self.providers = {name: ProviderConfig.from_env(name) for name in PROVIDER_URLS}

    async def chat(self, user_id: str, message: str) -> ChatResult:
        """Answer a user; tries every model in turn.

        Raises LLMError when all of them failed.
        """
        messages = self._build_messages(user_id, message)
        last_error: LLMError | None = None
        for provider, model in MODEL_PRIORITY:
            try:
                result = await self._chat_with_retry(provider, model, messages)
            except LLMError as error:
                logger.warning("%s/%s failed: %s", provider, model, type(error).__name__)
                last_error = error
                continue
            self.store.add(user_id, message, result.text)
            return result
        raise LLMError("all models failed") from last_error

    async def chat_stream(self, user_id: str, message: str) -> AsyncGenerator[str, None]:
        """Answer a user piece by piece; another model is tried until the first piece is there."""
        messages = self._build_messages(user_id, message)
        last_error: LLMError | None = None
        for provider, model in MODEL_PRIORITY:
            for attempt in range(MAX_RETRIES):
                pieces: list[str] = []
                try:
                    async for piece in self._stream(provider, model, messages):
                        pieces.append(piece)
                        yield piece
                except LLMError as error:
                    if pieces:
                        raise
                    last_error = error
                    if isinstance(error, LLMAuthError):
                        break
                    await asyncio.sleep(backoff_delay(attempt, error))
                else:
                    self.store.add(user_id, message, "".join(pieces))
                    return
        raise LLMError("all models failed") from last_error

    def _build_messages(self, user_id: str, message: str) -> list[Message]:
        return [
            Message("system", SYSTEM_PROMPT),
            *self.store.get(user_id),
            Message("user", message),
        ]

    async def _chat_with_retry(
        self, provider: str, model: str, messages: list[Message]
    ) -> ChatResult:
        error: LLMError = LLMError("not tried")
        for attempt in range(MAX_RETRIES):
            try:
                return await self._chat_once(provider, model, messages)
            except LLMAuthError:
                raise
            except LLMError as failed:
                error = failed
                delay = backoff_delay(attempt, failed)
                logger.info("attempt %d failed, waiting %.1f s", attempt + 1, delay)
                await asyncio.sleep(delay)
        raise error

    async def _chat_once(self, provider: str, model: str, messages: list[Message]) -> ChatResult:
        started = time.monotonic()
        config = self.providers[provider]
        try:
            response = await self.http.post(
                f"{config.base_url}/chat/completions",
                headers=self._headers(config),
                json=self._payload(model, messages, stream=False),
            )
        except httpx.TimeoutException as error:
            raise LLMTimeoutError("no answer in time") from error
        except httpx.HTTPError as error:
            raise LLMError("connection failed") from error
        self._raise_for_status(response)
        return self._parse_response(response, model, time.monotonic() - started)

    async def _stream(
        self, provider: str, model: str, messages: list[Message]
    ) -> AsyncGenerator[str, None]:
        config = self.providers[provider]
        try:
            async with self.http.stream(
                "POST",
                f"{config.base_url}/chat/completions",
                headers=self._headers(config),
                json=self._payload(model, messages, stream=True),
            ) as response:
                self._raise_for_status(response)
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line[len("data:") :].strip()
                    if data == "[DONE]":
                        return
                    piece = self._parse_chunk(data)
                    if piece:
                        yield piece
        except httpx.TimeoutException as error:
            raise LLMTimeoutError("no answer in time") from error
        except httpx.HTTPError as error:
            raise LLMError("the stream broke off") from error

    def _headers(self, config: ProviderConfig) -> dict[str, str]:
        if not config.api_key:
            raise LLMAuthError(f"no key for {config.name}")
        return {"Authorization": f"Bearer {config.api_key}", **config.headers}

    def _payload(self, model: str, messages: list[Message], stream: bool) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [m.to_dict() for m in fit_to_context(messages, model)],
            "max_tokens": MAX_TOKENS,
            "temperature": 0.3,
            "stream": stream,
        }

    def _raise_for_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status < 400:
            return
        if status in (401, 403):
            raise LLMAuthError("the key was refused")
        if status == 429:
            try:
                retry_after = float(response.headers.get("retry-after", ""))
            except ValueError:
                retry_after = None
            raise LLMRateLimitError("too many requests", retry_after)
        raise LLMError(f"HTTP {status}")

    def _parse_response(self, response: httpx.Response, model: str, latency: float) -> ChatResult:
        try:
            body = response.json()
            text = body["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise LLMResponseError("the answer can't be read") from error
        if not text:
            raise LLMResponseError("the answer is empty")
        usage = body.get("usage") or {}
        return ChatResult(
            text=text,
            model=body.get("model") or model,
            prompt_tokens=usage.get("prompt_tokens", 0),
            completion_tokens=usage.get("completion_tokens", 0),
            latency=latency,
        )

    def _parse_chunk(self, data: str) -> str:
        try:
            choices = json.loads(data).get("choices") or [{}]
            return choices[0].get("delta", {}).get("content") or ""
        except (ValueError, AttributeError, IndexError) as error:
            raise LLMResponseError("a chunk can't be read") from error

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()
