"""`llm-common models`: what the registry can reach, at which price, and with which keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal

from rich import box
from rich.table import Table

from ..errors import ConfigurationError
from ..pricing import Price, price_of
from ..routing import ModelSpec, ProviderSpec, Registry, load_registry
from .common import out, print_json


@dataclass(frozen=True, slots=True)
class Line:
    """One deployment, without its keys: a model at a provider.

    Attributes:
        group: the name that callers use.
        input_usd_per_million: None when the price is unknown, as is that of the output.
        ceiling: the prices are the host's ceiling for an unknown price.
        keys: variables that are set.
        missing: the variable to set, where a key is needed and there is none.
    """

    group: str
    provider: str
    id: str
    input_usd_per_million: Decimal | None
    output_usd_per_million: Decimal | None
    ceiling: bool
    context_tokens: int
    max_output_tokens: int
    keys: tuple[str, ...]
    missing: str | None


def models(provider: str | None, *, as_json: bool) -> None:
    """Print every model of the registry, or those of one provider.

    Raises:
        ConfigurationError: the registry has no such provider.
    """
    registry = load_registry()
    if provider is not None and provider not in registry.providers:
        known = ", ".join(sorted(registry.providers))
        raise ConfigurationError(f"no provider {provider!r}: use {known}")
    found = [line for line in lines(registry) if provider in (None, line.provider)]
    if as_json:
        print_json([asdict(line) for line in found])
    else:
        out.print(_table(found))
        out.print(_keys(found))


def lines(registry: Registry) -> Iterator[Line]:
    """Yield the deployments of the registry, group by group, in its order."""
    groups: dict[str, dict[str, ModelSpec]] = {}
    for spellings in registry.models.values():
        for spec in spellings.values():
            groups.setdefault(spec.name, {})[spec.provider] = spec
    for places in groups.values():
        for spec in places.values():
            yield _line(registry, registry.providers[spec.provider], spec)


def _line(registry: Registry, provider: ProviderSpec, spec: ModelSpec) -> Line:
    price = price_of(provider.name, spec.id)
    own = registry.terms.get(spec.name)
    ceiling = (own.ceiling if own else None) or provider.terms.ceiling
    shown = price or ceiling
    keys = key_variables(provider)
    return Line(
        group=spec.name,
        provider=provider.name,
        id=spec.id,
        input_usd_per_million=_per_million(shown, "input"),
        output_usd_per_million=_per_million(shown, "output"),
        ceiling=price is None and ceiling is not None,
        context_tokens=spec.context_tokens,
        max_output_tokens=spec.max_output_tokens,
        keys=keys,
        missing=None if keys or provider.keyless else provider.key_env,
    )


def key_variables(provider: ProviderSpec) -> tuple[str, ...]:
    """Return the variables that hold keys of a provider; never what they hold."""
    pattern = re.compile(rf"{re.escape(provider.key_env)}(_\d+)?")
    return tuple(sorted(n for n in os.environ if pattern.fullmatch(n) and os.environ[n].strip()))


def _per_million(price: Price | None, part: str) -> Decimal | None:
    if price is None:
        return None
    # Through text: `normalize` alone writes 10 as 1E+1.
    return Decimal(f"{(price.input if part == 'input' else price.output).scaleb(6).normalize():f}")


def _table(found: list[Line]) -> Table:
    groups = len({line.group for line in found})
    title = f"{len(found)} deployments in {groups} groups; prices in USD per million tokens"
    ceilings = any(line.ceiling for line in found)
    caption = "↑ the host's ceiling, not a price" if ceilings else None
    table = Table(title=title, title_justify="left", caption=caption, box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    for column in ("group", "provider"):
        table.add_column(column, no_wrap=True)
    for column in ("input", "output", "context", "answer"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("keys", no_wrap=True)
    shown = ""
    for line in found:
        mark = "↑" if line.ceiling else ""
        table.add_row(
            line.group if line.group != shown else "",
            line.provider,
            _usd(line.input_usd_per_million, mark),
            _usd(line.output_usd_per_million, mark),
            _size(line.context_tokens),
            _size(line.max_output_tokens),
            "none" if line.missing else str(len(line.keys) or "–"),
        )
        shown = line.group
    return table


def _keys(found: list[Line]) -> Table:
    """List the variables once, not with every model."""
    table = Table(title="Keys", title_justify="left", box=box.SIMPLE, show_header=False)
    said = {(line.provider, line.keys, line.missing): line for line in found}
    for line in said.values():
        if line.keys or line.missing:
            state = ", ".join(line.keys) or f"{line.missing} is not set"
            table.add_row(line.provider, state)
    return table


def _size(tokens: int) -> str:
    """Write tokens as people say them: 128k, 1M."""
    if tokens < 1_000:
        return str(tokens)
    return f"{tokens / 1e6:.3g}M" if tokens >= 1_000_000 else f"{tokens / 1e3:.0f}k"


def _usd(amount: Decimal | None, mark: str) -> str:
    return "unknown" if amount is None else f"{mark}{amount:f}"
