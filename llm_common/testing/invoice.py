"""What the server would have charged, by arithmetic of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..types import Usage

if TYPE_CHECKING:
    from ..pricing import Price


@dataclass(frozen=True, slots=True)
class ServerPrice:
    """USD per token, and per request.

    Attributes:
        cached_input: None charges cached input like any input.
        cache_write: None charges written input like any input.
        reasoning: None charges reasoning like any output.
        above: dearer prices as (input tokens, price): a request with more input than that is
            charged by that price as a whole.
    """

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    request: Decimal = Decimal(0)
    reasoning: Decimal | None = None
    above: tuple[tuple[int, ServerPrice], ...] = ()

    def charge(self, usage: Usage) -> Decimal:
        """Return the USD of one request, exact."""
        for tokens, dearer in sorted(self.above, key=lambda tier: -tier[0]):
            if usage.input_tokens > tokens:
                return dearer.charge(usage)
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        cached = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        thought = self.output if self.reasoning is None else self.reasoning
        return (
            self.request
            + plain * self.input
            + usage.cached_input_tokens * cached
            + usage.cache_write_tokens * write
            + (usage.output_tokens - usage.reasoning_tokens) * self.output
            + usage.reasoning_tokens * thought
        )


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One charged request; `amount` is None where the price is unknown."""

    request_id: str
    provider: str
    model: str
    usage: Usage
    amount: Decimal | None

    def as_json(self) -> str:
        """Return the line as JSON; the amount is a string, so that no digit is lost."""
        return json.dumps(
            {
                "request_id": self.request_id,
                "provider": self.provider,
                "model": self.model,
                **self.usage.model_dump(),
                "amount": None if self.amount is None else str(self.amount),
            }
        )


class Invoice:
    """All lines so far, in order; also in a file, line by line, if one is named."""

    def __init__(self, path: Path | None = None) -> None:
        self.lines: list[InvoiceLine] = []
        self._file: TextIO | None = path.open("a", encoding="utf-8") if path else None

    @property
    def total_usd(self) -> Decimal:
        """Sum of the priced lines."""
        return sum((line.amount for line in self.lines if line.amount is not None), Decimal(0))

    @property
    def unpriced(self) -> int:
        """How many lines have no price."""
        return sum(line.amount is None for line in self.lines)

    def book(self, line: InvoiceLine) -> None:
        """Add a line; it is in the file before the client can see an answer."""
        self.lines.append(line)
        if self._file:
            self._file.write(line.as_json() + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; the lines stay readable."""
        if self._file:
            self._file.close()
            self._file = None


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by ``provider/model`` or bare model, else those of the library's price data."""

    overrides: Mapping[str, ServerPrice]

    def find(self, provider: str, *models: str) -> ServerPrice | None:
        """Return the price of the first model that has one."""
        found = (self._find(provider, model) for model in models)
        return next((price for price in found if price is not None), None)

    def _find(self, provider: str, model: str) -> ServerPrice | None:
        for key in (f"{provider}/{model}", model):
            if key in self.overrides:
                return self.overrides[key]
        return _library_price(provider, model)


def _library_price(provider: str, model: str) -> ServerPrice | None:
    from ..pricing import price_of

    price = price_of(provider, model)
    return None if price is None else _from_library(price)


def _from_library(price: Price) -> ServerPrice:
    return ServerPrice(
        price.input,
        price.output,
        price.cached_input,
        price.cache_write,
        price.request,
        price.reasoning,
        tuple((tokens, _from_library(tier)) for tokens, tier in price.above),
    )
