"""Which deployments to try, in order of preference."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b

from ..errors import ConfigurationError, InvalidInputError, MissingKeyError, UnknownModelError
from ..pricing import litellm_entry, litellm_map
from ..types import Lane
from .models import Deployment, LLMTask, ModelSpec
from .registry import ProviderSpec, Registry, Terms, model_spec

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
    """Return the deployments for one call, those of the preferred model first.

    `models` wins over `model`, and `model` over `task`. A name that is none of the provider's own
    may be another's, as ``anthropic/claude-sonnet-4.5``; a reseller's ids stay its own. Models
    whose provider has no key are left out as long as another model remains.

    Args:
        provider: a name of the registry, or any provider that litellm knows.
        api_key: the provider's only key; else the keys that the environment holds.
        base_url: the provider's endpoint; else ``<NAME>_BASE_URL``, else the registry's.

    Raises:
        UnknownModelError: the provider has no such model or task.
        MissingKeyError: no key for any of the models; names the variable.
        ConfigurationError: no such provider, or it has no endpoint.
        InvalidInputError: nothing says which model.
    """
    names = _names(registry, provider, model, task, models)
    request = (id(registry), provider, names, api_key, base_url)
    made = _made.get(request)
    if made is None or made.registry is not registry or made.saw != _sight(environ, made.reads):
        reads: list[str] = []
        found = _plan(registry, _Own(provider, api_key, base_url, environ, reads), names)
        made = _Made(registry, tuple(reads), _sight(environ, reads), found)
        if len(_made) >= MOST_MADE:
            _made.clear()
        _made[request] = made
    return made.deployments


MOST_MADE = 256


@dataclass(frozen=True, slots=True)
class _Made:
    """A plan and what it was made from."""

    registry: Registry
    reads: Sequence[str]
    saw: object
    deployments: tuple[Deployment, ...]


_made: dict[object, _Made] = {}


def _sight(environ: Mapping[str, str], names: Sequence[str]) -> object:
    """Everything about the environment that a plan depends on: a new key, too, is a new name."""
    return (*environ, *(environ.get(name) for name in names))


@dataclass(frozen=True, slots=True)
class _Own:
    """What the caller says of its own provider; `reads` gathers the variables that are read."""

    provider: str
    api_key: str | None
    base_url: str | None
    environ: Mapping[str, str]
    reads: list[str]

    def endpoint(self, spec: ProviderSpec) -> str | None:
        self.reads.append(spec.base_url_env)
        mine = self.base_url if spec.name == self.provider else None
        return mine or self.environ.get(spec.base_url_env) or spec.base_url

    def keys(self, spec: ProviderSpec) -> list[tuple[str, str]]:
        pattern = re.compile(rf"{re.escape(spec.key_env)}(?:_(\d+))?")
        found = {name: match for name in self.environ if (match := pattern.fullmatch(name))}
        self.reads.extend(found)
        if self.api_key and spec.name == self.provider:
            return [("argument", self.api_key)]
        names = sorted(found, key=lambda name: int(found[name][1] or 1))
        return _keys(spec, [(name, self.environ[name].strip()) for name in names])


def _plan(registry: Registry, own: _Own, names: Sequence[str]) -> tuple[Deployment, ...]:
    deployments: list[Deployment] = []
    missing: list[MissingKeyError] = []
    for name in names:
        spec, model = _find(registry, own, name)
        endpoint = own.endpoint(spec)
        if endpoint is None and spec.wire == "openai":
            raise ConfigurationError(
                f"{spec.name} has no endpoint: pass base_url=… or set {spec.base_url_env}"
            )
        try:
            keys = own.keys(spec)
        except MissingKeyError as error:
            missing.append(error)
            continue
        terms = (spec.terms, registry.terms.get(model.name, NO_TERMS))
        found = (_deployment(spec, model, endpoint, key, terms) for key in enumerate(keys, 1))
        known = {deployment.lane.id for deployment in deployments}
        deployments += (d for d in found if d.lane.id not in known)
    if missing and not deployments:
        raise missing[0]
    return tuple(deployments)


NO_TERMS = Terms()


def _deployment(
    provider: ProviderSpec,
    model: ModelSpec,
    endpoint: str | None,
    numbered: tuple[int, tuple[str, str]],
    terms: tuple[Terms, Terms],
) -> Deployment:
    number, (key_alias, key) = numbered
    return Deployment(
        alias=f"{provider.name}/{model.name}#{number}",
        provider=provider.name,
        model=model,
        wire=provider.wire,
        base_url=endpoint,
        key_alias=key_alias,
        key=key,
        lane=_lane(model, endpoint, (key_alias, key), terms),
        ceiling=terms[1].ceiling or terms[0].ceiling,
    )


def _lane(
    model: ModelSpec, endpoint: str | None, key: tuple[str, str], terms: tuple[Terms, Terms]
) -> Lane:
    # By hash: the same key may have another name elsewhere, and "argument" names many.
    place = (model.provider, endpoint or "", key[1])
    ids = (_hash(*place), _hash(*place, model.id))
    metered = zip(ids, terms, strict=True)
    return Lane(
        id=ids[1],
        group=f"{model.provider}/{model.id}",
        label=f"{model.provider}/{model.name} {key[0]}",
        context_tokens=model.context_tokens if model.listed else 0,
        meters=tuple((name, each.limits) for name, each in metered if each.limits is not None),
    )


def _hash(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=12, person=b"llm_common").hexdigest()


def _find(registry: Registry, own: _Own, name: str) -> tuple[ProviderSpec, ModelSpec]:
    """Find a name among the provider's own models, then another's, then what may pass unlisted."""
    spec = _provider(registry, own.provider)
    mine = _listed(registry, spec, name)
    if mine is not None:
        return spec, mine
    prefix, _, rest = name.partition("/")
    other = registry.providers.get(prefix)
    custom = _is_custom(own, spec)
    if other is not None and other is not spec and not _resells(registry, spec, prefix):
        theirs = _listed(registry, other, rest) or _mapped(other, rest)
        if theirs is not None and not (own.base_url and custom):
            return other, theirs
        if not custom and not spec.any_model:
            return other, _model(registry, other, rest, custom=_is_custom(own, other))
    return spec, _model(registry, spec, name, custom=custom)


def _is_custom(own: _Own, spec: ProviderSpec) -> bool:
    """What a host serves itself may have any name; `offline` has no address of its own."""
    return spec.base_url is not None and own.endpoint(spec) != spec.base_url


def _resells(registry: Registry, spec: ProviderSpec, vendor: str) -> bool:
    """Whether a provider passes any id through and sells a vendor's models under its name."""
    ids = {model.id for model in registry.models.get(spec.name, {}).values()}
    return spec.any_model and any(each.startswith(f"{vendor}/") for each in ids)


def _provider(registry: Registry, name: str) -> ProviderSpec:
    if name in registry.providers:
        return registry.providers[name]
    known_to_litellm = {entry.get("litellm_provider") for entry in litellm_map().values()}
    if name in known_to_litellm:
        return ProviderSpec(name, key_env=f"{name.upper()}_API_KEY")
    raise ConfigurationError(f"no provider {name!r}: use {', '.join(sorted(registry.providers))}")


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
        _provider(registry, provider)  # which may be what is unknown
        raise UnknownModelError(f"the registry names no model of {provider} for the task {task}")
    return names


def _listed(registry: Registry, spec: ProviderSpec, name: str) -> ModelSpec | None:
    listed = registry.models.get(spec.name, {})
    return listed.get(name) or listed.get(name.removeprefix(f"{spec.name}/"))


def _mapped(spec: ProviderSpec, name: str) -> ModelSpec | None:
    """Find a model in litellm's map."""
    entry = litellm_entry(spec.name, name)
    if entry is None:
        return None
    facts = (entry.get("max_input_tokens"), entry.get("max_output_tokens"))
    context, output = (int(fact or UNLISTED_TOKENS) for fact in facts)
    return model_spec(name, name, spec, context, output, listed=bool(facts[0]))


def _model(registry: Registry, spec: ProviderSpec, name: str, *, custom: bool) -> ModelSpec:
    own_name = name.removeprefix(f"{spec.name}/")
    found = _listed(registry, spec, name) or _mapped(spec, own_name)
    if found is not None:
        return found
    # A vendor's id at a reseller, or whatever a host's own server is called.
    if (spec.any_model and ("/" in name or spec.wire == "litellm")) or custom:
        return model_spec(own_name, own_name, spec, UNLISTED_TOKENS, UNLISTED_TOKENS, listed=False)
    listed = registry.models.get(spec.name, {})
    close = get_close_matches(own_name, listed, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"it has {', '.join(sorted(listed))}"
    raise UnknownModelError(f"{spec.name} has no model {name!r}: {hint}")


def _keys(spec: ProviderSpec, found: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (alias, key) pairs: ``X_API_KEY``, ``X_API_KEY_2``, … each key once."""
    keys: dict[str, str] = {}
    for name, key in found:
        if key:
            keys.setdefault(key, name)
    if keys:
        return [(name, key) for key, name in keys.items()]
    if spec.keyless:
        return [("none", spec.name)]
    raise MissingKeyError(f"no key for {spec.name}: pass api_key=… or set {spec.key_env}")
