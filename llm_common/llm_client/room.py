"""Does the input fit the model? Refused here is only what certainly does not. Pure.

No published tokenizer of the listed providers makes one token of letters or digits that white
space separates, so a text has at least as many tokens as words; English has about 1.4 times as
many. Text without spaces, images and tools count nothing, nor does the room for the answer, which
some providers cut short and others insist on: the provider decides what is near the limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from ..errors import ContextLengthError
from ..routing import Deployment
from ..types import Messages

_WORD = re.compile(r"[^\W_]\S*")


def least_tokens(text: str) -> int:
    """Return a number of tokens that no tokenizer stays below."""
    return len(_WORD.findall(text))


def roomy(deployments: Sequence[Deployment], messages: Messages) -> Sequence[Deployment]:
    """Leave out the deployments that can't take the messages, by the context of their models.

    Raises:
        ContextLengthError: that is all of them; nothing was sent.
    """
    return _holding(deployments, [list(_texts(messages))])


def roomy_for_each(deployments: Sequence[Deployment], texts: Sequence[str]) -> Sequence[Deployment]:
    """Do as `roomy` for texts of which each is an input of its own."""
    return _holding(deployments, [[text] for text in texts])


def _holding(
    deployments: Sequence[Deployment], inputs: Sequence[Sequence[str]]
) -> Sequence[Deployment]:
    known = [each.lane.context_tokens for each in deployments if each.lane.context_tokens]
    # A word and the space after it are two characters: most calls are done here.
    longest = max((sum(map(len, texts)) for texts in inputs), default=0)
    if not known or longest // 2 < min(known):
        return deployments
    least = max(sum(map(least_tokens, texts)) for texts in inputs)
    holding = [
        d for d in deployments if not d.lane.context_tokens or least <= d.lane.context_tokens
    ]
    if holding:
        return holding
    last = deployments[-1]
    raise ContextLengthError(
        f"{last.provider}/{last.model.name}: at least {least:,} tokens of input are more than its "
        f"context of {max(known):,} takes; nothing was sent, shorten it",
        provider=last.provider,
        model=last.model.id,
    )


def _texts(messages: Messages) -> Iterator[str]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, Iterable):
            for part in cast("Iterable[Any]", content):
                text = (
                    cast("Mapping[str, Any]", part).get("text")
                    if isinstance(part, Mapping)
                    else part
                )
                if isinstance(text, str):
                    yield text
