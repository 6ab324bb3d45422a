"""How many tokens a text has, without a network."""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

ENCODING = "cl100k_base"
"""The encoding that figures of this library are in; litellm's package holds its file."""


def count_tokens(text: str) -> int:
    """Count the tokens of a text in `ENCODING`."""
    return len(_encoding().encode(text, disallowed_special=()))


@lru_cache(maxsize=1)
def _encoding() -> Any:
    # Found, not imported: litellm takes seconds to import.
    litellm = importlib.util.find_spec("litellm")
    if litellm is not None and litellm.origin is not None:
        held = Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(held))
    import tiktoken

    return tiktoken.get_encoding(ENCODING)
