"""The registry: providers, models and tasks as data, with a host's own file laid over it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from ..errors import ConfigurationError
from ..pricing import Price
from ..settings import setting
from ..types import RateLimits
from .checks import Table, check, malformed, usd_per_million
from .models import LLMTask, ModelSpec, Structured, Wire

REGISTRY_FILE = Path(__file__).parent.parent / "data" / "registry.toml"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the host allows: rates of each key, and the most that an unpriced model can cost."""

    limits: RateLimits | None = None
    ceiling: Price | None = None


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """How to reach one provider; see the head of ``registry.toml`` for the fields."""

    name: str
    wire: Wire = "litellm"
    base_url: str | None = None
    key_env: str = ""
    keyless: bool = False
    any_model: bool = False
    structured: Structured = "tools"
    extra: Table = field(default_factory=dict[str, Any])
    quirks: tuple[Table, ...] = ()
    terms: Terms = field(default_factory=Terms)

    @property
    def base_url_env(self) -> str:
        """Variable that replaces the endpoint."""
        return f"{self.name.upper()}_BASE_URL"


@dataclass(frozen=True)
class Registry:
    """Everything that routing knows; made by `load_registry`, never changed.

    Attributes:
        providers: by name.
        models: provider -> any spelling of a model (bare name, alias or id) -> its facts.
        tasks: task -> provider -> bare model names, the preferred one first.
        terms: bare model name -> what the host allows for it.
    """

    providers: Mapping[str, ProviderSpec]
    models: Mapping[str, Mapping[str, ModelSpec]]
    tasks: Mapping[LLMTask, Mapping[str, tuple[str, ...]]]
    terms: Mapping[str, Terms] = field(default_factory=dict[str, Terms])


def load_registry(path: str | None = None) -> Registry:
    """Return the shipped registry, with the host's TOML file laid over it.

    Args:
        path: the host's file; None means the setting `registry` (``LLM_COMMON_REGISTRY``).

    Raises:
        ConfigurationError: the file is missing, or malformed; names the key and the line.
    """
    path = setting("registry", path).value
    if path is None:
        return _load(None, 0)
    try:
        stamp = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise ConfigurationError(f"the registry {path} can't be read") from error
    return _load(path, stamp)


@lru_cache(maxsize=8)
def _load(path: str | None, _mtime_ns: int) -> Registry:
    shipped = _read(REGISTRY_FILE)
    if path is None:
        return _build(shipped, str(REGISTRY_FILE))
    host = _read(Path(path))
    check(host, path)
    return _build(_overlay(shipped, host), path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the registry {path} can't be read") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the registry {path} is not valid TOML: {error}") from error


def _overlay(base: Table, top: Table) -> dict[str, Any]:
    """Lay one table over another, key by key; lists and plain values are replaced."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _overlay(cast(Table, below), cast(Table, value)) if both else value
    return merged


def _build(tables: Table, path: str) -> Registry:
    providers = {name: _provider(name, table) for name, table in tables["providers"].items()}
    models: dict[str, dict[str, ModelSpec]] = {name: {} for name in providers}
    for name, table in tables["models"].items():
        for provider, model_id in table.get("at", {}).items():
            if provider not in providers:
                raise malformed(path, f"models.{name}.at.{provider}", "is no provider here")
            spec = _model(name, model_id, providers[provider], table, path)
            for spelling in (name, model_id, *table.get("aliases", ())):
                models[provider][spelling] = spec
    tasks = {
        LLMTask(task): {provider: tuple(names) for provider, names in table.items()}
        for task, table in tables["tasks"].items()
    }
    terms = {name: _terms(table) for name, table in tables["models"].items()}
    return Registry(providers, models, tasks, terms)


def _provider(name: str, table: Table) -> ProviderSpec:
    own = {key: value for key, value in table.items() if key not in ("limits", "ceiling")}
    values: dict[str, Any] = {"key_env": f"{name.upper()}_API_KEY", **own}
    values["quirks"] = tuple(table.get("quirks", ()))
    return ProviderSpec(name, **values, terms=_terms(table))


def _terms(table: Table) -> Terms:
    limits, ceiling = table.get("limits"), table.get("ceiling")
    return Terms(RateLimits(**limits) if limits else None, _ceiling(ceiling) if ceiling else None)


def _ceiling(table: Table) -> Price:
    rates = [usd_per_million(table[f"{part}_usd_per_million"]) for part in ("input", "output")]
    known = [rate.scaleb(-6) for rate in rates if rate is not None]
    return Price(*known, source="ceiling")


def _model(name: str, model_id: str, provider: ProviderSpec, table: Table, path: str) -> ModelSpec:
    for key in ("context", "max_output"):
        if key not in table:
            raise malformed(path, f"models.{name}", f"needs {key}, in tokens")
    return model_spec(name, model_id, provider, table["context"], table["max_output"])


def model_spec(
    name: str,
    model_id: str,
    provider: ProviderSpec,
    context: int,
    max_output: int,
    *,
    listed: bool = True,
) -> ModelSpec:
    """Make a model's facts, with the provider's quirks for its id applied.

    Args:
        context: tokens that the model takes.
        max_output: most tokens of one answer.
        listed: both are facts, not assumptions.
    """
    quirks = [quirk for quirk in provider.quirks if re.search(quirk["match"], model_id)]
    default = next((q["default_max_tokens"] for q in quirks if "default_max_tokens" in q), 4096)
    return ModelSpec(
        name=name,
        id=model_id,
        provider=provider.name,
        context_tokens=context,
        max_output_tokens=max_output,
        default_max_tokens=min(default, max_output),
        structured=provider.structured,
        drop=tuple(dict.fromkeys(key for quirk in quirks for key in quirk.get("drop", ()))),
        rename={old: new for quirk in quirks for old, new in quirk.get("rename", {}).items()},
        extra={**provider.extra, **{k: v for q in quirks for k, v in q.get("extra", {}).items()}},
        listed=listed,
    )
