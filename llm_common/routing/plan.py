"""Which deployments to try, in order of preference."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from ..errors import ConfigurationError, InvalidInputError, MissingKeyError, UnknownModelError
from ..pricing import litellm_entry, litellm_map
from .models import Deployment, LLMTask, ModelSpec
from .registry import ProviderSpec, Registry, model_spec

UNLISTED_TOKENS = 131_072
"""Context and output assumed for a model of which nothing is known; `max_tokens` is always sent."""


def plan(
    registry: Registry,
    *,
    provider: str,
    model: str | None = None,
    task: LLMTask | str | None = None,
    models: Sequence[str] | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Deployment, ...]:
    """Return the deployments for one call, the preferred one first.

    `models` wins over `model`, and `model` over `task`. Each model is tried with every key
    before the next model is.

    Args:
        provider: a name of the registry, or any provider that litellm knows.
        api_key: the only key to use; else the keys that the environment holds.
        base_url: the endpoint; else ``<NAME>_BASE_URL``, else the registry's.

    Raises:
        UnknownModelError: the provider has no such model or task.
        MissingKeyError: no key; names the variable.
        ConfigurationError: no such provider, or it has no endpoint.
        InvalidInputError: nothing says which model.
    """
    spec = _provider(registry, provider)
    endpoint = _endpoint(spec, base_url, environ)
    # What a host serves itself may have any name; `offline` has no address of its own.
    custom = spec.base_url is not None and endpoint != spec.base_url
    names = _names(registry, provider, model, task, models)
    specs = [_model(registry, spec, name, custom=custom) for name in names]
    keys = list(enumerate(_keys(spec, api_key, environ), 1))
    return tuple(_deployment(spec, found, endpoint, *key) for found in specs for key in keys)


def _deployment(
    provider: ProviderSpec,
    model: ModelSpec,
    endpoint: str | None,
    number: int,
    key: tuple[str, str],
) -> Deployment:
    return Deployment(
        alias=f"{provider.name}/{model.name}#{number}",
        provider=provider.name,
        model=model,
        wire=provider.wire,
        base_url=endpoint,
        key_alias=key[0],
        key=key[1],
    )


def _provider(registry: Registry, name: str) -> ProviderSpec:
    if name in registry.providers:
        return registry.providers[name]
    known_to_litellm = {entry.get("litellm_provider") for entry in litellm_map().values()}
    if name in known_to_litellm:
        return ProviderSpec(name, key_env=f"{name.upper()}_API_KEY")
    raise ConfigurationError(f"no provider {name!r}: use {', '.join(sorted(registry.providers))}")


def _endpoint(spec: ProviderSpec, base_url: str | None, environ: Mapping[str, str]) -> str | None:
    endpoint = base_url or environ.get(spec.base_url_env) or spec.base_url
    if endpoint is None and spec.wire == "openai":
        raise ConfigurationError(
            f"{spec.name} has no endpoint: pass base_url=… or set {spec.base_url_env}"
        )
    return endpoint


def _names(
    registry: Registry,
    provider: str,
    model: str | None,
    task: LLMTask | str | None,
    models: Sequence[str] | None,
) -> tuple[str, ...]:
    if models:
        return tuple(dict.fromkeys(models))
    if model:
        return (model,)
    if task is None:
        raise InvalidInputError("no model: pass model=…, models=… or task=…")
    if task not in tuple(LLMTask):
        raise UnknownModelError(f"no task {str(task)!r}: use one of {', '.join(LLMTask)}")
    names = registry.tasks.get(LLMTask(task), {}).get(provider)
    if not names:
        raise UnknownModelError(f"the registry names no model of {provider} for the task {task}")
    return names


def _model(registry: Registry, spec: ProviderSpec, name: str, *, custom: bool) -> ModelSpec:
    listed = registry.models.get(spec.name, {})
    own_name = name.removeprefix(f"{spec.name}/")
    for spelling in (name, own_name):
        if spelling in listed:
            return listed[spelling]
    entry = litellm_entry(spec.name, own_name)
    if entry is not None:
        output = int(entry.get("max_output_tokens") or UNLISTED_TOKENS)
        context = int(entry.get("max_input_tokens") or UNLISTED_TOKENS)
        return model_spec(own_name, own_name, spec, context, output)
    # A vendor's id at a reseller, or whatever a host's own server is called.
    if (spec.any_model and ("/" in name or spec.wire == "litellm")) or custom:
        return model_spec(own_name, own_name, spec, UNLISTED_TOKENS, UNLISTED_TOKENS)
    close = get_close_matches(own_name, listed, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"it has {', '.join(sorted(listed))}"
    raise UnknownModelError(f"{spec.name} has no model {name!r}: {hint}")


def _keys(
    spec: ProviderSpec, api_key: str | None, environ: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return (alias, key) pairs: ``X_API_KEY``, ``X_API_KEY_2``, … each key once."""
    if api_key:
        return [("argument", api_key)]
    pattern = re.compile(rf"{re.escape(spec.key_env)}(?:_(\d+))?")
    found = {name: match for name in environ if (match := pattern.fullmatch(name))}
    keys: dict[str, str] = {}
    for name in sorted(found, key=lambda name: int(found[name][1] or 1)):
        if key := environ[name].strip():
            keys.setdefault(key, name)
    if keys:
        return [(name, key) for key, name in keys.items()]
    if spec.keyless:
        return [("none", spec.name)]
    raise MissingKeyError(f"no key for {spec.name}: pass api_key=… or set {spec.key_env}")
