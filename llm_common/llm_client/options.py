"""What a call may say beside its messages and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from ..context import Labels
from ..prompts import Prompt
from ..routing import LLMTask


class EmbedOptions(TypedDict, total=False):
    """What a call for embeddings may say beside its texts and model.

    Attributes:
        step: label of the ledger row, as are `user` and `tags`; absent ones come from
            `context.labels`.
        timeout_s: deadline of one attempt, in seconds (120). Of a stream: to its first delta,
            and from each to the next.
        extra: arguments that are passed to the provider as they are.
    """

    step: str | None
    user: str | None
    tags: Sequence[str]
    timeout_s: float
    extra: Mapping[str, Any]


class CallOptions(EmbedOptions, total=False):
    """What a call to a chat model may say beside its messages and model.

    Attributes:
        task: choose the model by task, in place of `model`.
        max_tokens: most that the answer may hold; the model's own default if absent.
        prompt: the template that the messages were made from; its id, version and hash are
            recorded.
        max_reasks: how often an answer that does not fit `response_model` is asked again (2).
        cache_ttl_s: keep the answer in the database for so many seconds, and take the one that
            is there for the very same question; not of streams.
    """

    task: LLMTask | str | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    tools: Sequence[Mapping[str, Any]]
    tool_choice: Any
    prompt: Prompt | None
    max_reasks: int
    cache_ttl_s: float | None


def labels_of(labels: Labels, options: CallOptions, tags: tuple[str, ...]) -> Labels:
    """Lay what the call says over the labels of its context."""
    task = options.get("task")
    return replace(
        labels,
        step=options.get("step") or labels.step,
        user=options.get("user") or labels.user,
        task=str(task) if task else labels.task,
        tags=(*labels.tags, *options.get("tags", ()), *tags),
    )
