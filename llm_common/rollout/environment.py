"""The two environment variables of the hosts' plan, read when a rollout is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import InvalidInputError
from .buckets import share_of

USE = "USE_NEW_LLM_FRAMEWORK"
PERCENTAGE = "USE_NEW_LLM_FRAMEWORK_PERCENTAGE"

_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What the variables say.

    Attributes:
        use: True or False, None where it is not set.
        share: in basis points, None where it is not set.
        problem: what can't be read, in a sentence; then the old arm runs.
    """

    use: bool | None = None
    share: int | None = None
    problem: str | None = None


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the variables, of this process by default. Empty means not set."""
    variables = os.environ if variables is None else variables
    word = variables.get(USE, "").strip().lower()
    percent = variables.get(PERCENTAGE, "").strip()
    use, share, problem = _WORDS.get(word), None, None
    if word and use is None:
        problem = f"{USE} is true or false, not {word!r}"
    if percent:
        try:
            share = share_of(percent)
        except InvalidInputError as error:
            problem = problem or f"{PERCENTAGE}: {error}"
    return Environment(use, share, problem)
