"""Answers that are there already: the response cache, for calls that ask for it.

The key is a hash of everything that decides an answer: project, models with their endpoints and
quirks, messages, schema and every option that goes on the wire. Prompts are not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ..cache import LeaseCache, Owner, Terms
from ..calls import Operation
from ..cost_tracker import CostTracker, is_owner_alive, owner_of
from ..errors import InvalidInputError
from ..routing import Deployment
from ..types import LLMResponse
from .conversation import POLICY, Question, converse

M = TypeVar("M", bound=BaseModel)

KEY_VERSION = 1
COMPLETE = ("stop", "tool_calls")
"""What ends an answer that is worth keeping; one that was cut off or filtered is not."""
ON_THE_WIRE = (
    "max_tokens", "temperature", "seed", "tools", "tool_choice", "extra", "max_reasks",
)  # fmt: skip
CACHE = "cache"
"""`cost_source` of an answer that cost nothing because it was there."""


def response_cache(tracker: CostTracker) -> LeaseCache:
    """Return a cache in the tracker's database."""
    owner = Owner(owner_of(tracker.db), partial(is_owner_alive, tracker.db))
    return LeaseCache(tracker.db, owner, "llm_response")


async def converse_once(
    cache: LeaseCache, op: Operation, deployments: Sequence[Deployment], question: Question[M]
) -> LLMResponse[M]:
    """Return the stored answer to this very question, or ask and store it for `cache_ttl_s`.

    Callers that ask at once, in this process or another, wait for the first one's answer.

    Raises:
        DatabaseError: the cache can't be asked; nothing was sent.
        LLMCommonError: as `converse`; nothing is stored.
    """
    project = op.labels.project or op.tracker.project
    fresh: list[LLMResponse[M]] = []

    async def produce() -> list[Any]:
        fresh.append(await converse(op, deployments, question))
        return [_stored(fresh[0])]

    def keep_s(value: list[Any]) -> float:
        kept = _is_kept(value[0], fresh[0], question.response_model)
        return (question.options.get("cache_ttl_s") or 0) if kept else 0

    cached = await cache.get(
        cache_key(project, deployments, question),
        {"project": project, "model": op.requested_model},
        produce,
        Terms(database_s=keep_s, lease_s=POLICY.wall_time_s + op.timeout_s),
    )
    if cached.layer == "none":
        return fresh[0]
    return _restored(cached.value[0], op, question.response_model)


def cache_key(project: str, deployments: Sequence[Deployment], question: Question[Any]) -> str:
    """Hash everything that decides an answer; keys and labels do not."""
    # By model, not by key: another key of the same account answers alike.
    models = {(d.provider, d.base_url, d.model.id): asdict(d.model) for d in deployments}
    schema = question.response_model and question.response_model.model_json_schema()
    parts = {
        "v": KEY_VERSION,
        "project": project,
        "models": [[*place, spec] for place, spec in models.items()],
        "messages": question.messages,
        "schema": schema,
        "options": {name: question.options.get(name) for name in ON_THE_WIRE},
    }
    text = json.dumps(parts, sort_keys=True, default=_table)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(value: object) -> object:
    """Write what `json` does not know: mappings and sequences of other types."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, Sequence):
        return list(cast("Sequence[Any]", value))
    raise InvalidInputError(f"{type(value).__name__} is not JSON: it can't be sent")


def _stored(response: LLMResponse[M]) -> dict[str, Any]:
    parsed = response.parsed and response.parsed.model_dump(mode="json")
    return {**response.model_dump(mode="json", exclude={"parsed"}), "parsed": parsed}


def _is_kept(
    stored: Mapping[str, Any], response: LLMResponse[M], response_model: type[M] | None
) -> bool:
    """Tell whether an answer is complete and comes back from JSON as it was."""
    if response.finish_reason not in COMPLETE:
        return False
    try:
        return _parsed(stored, response_model) == response.parsed
    except ValidationError:
        return False


def _parsed(stored: Mapping[str, Any], response_model: type[M] | None) -> M | None:
    return response_model.model_validate(stored["parsed"]) if response_model else None


def _restored(
    stored: Mapping[str, Any], op: Operation, response_model: type[M] | None
) -> LLMResponse[M]:
    """Make the stored answer this operation's: it cost nothing, and no request was sent."""
    prompt_id, prompt_version, prompt_hash = op.prompt
    return LLMResponse[M].model_validate(
        {
            **stored,
            "parsed": _parsed(stored, response_model),
            "cached": True,
            "cost_usd": 0,
            "cost_source": CACHE,
            "requested_model": op.requested_model,
            "attempts": 0,
            "latency_ms": round(op.elapsed_s * 1000),
            "prompt_id": prompt_id,
            "prompt_version": prompt_version,
            "prompt_hash": prompt_hash,
        }
    )
