"""How well a link fits what somebody looks for, before its page is fetched."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote, urlsplit

_WORD = re.compile(r"[^\W_]+")


def relevance(url: str, text: str, keywords: Sequence[str]) -> float:
    """Return how well a link fits, from 0 to 1.

    The mean over the keywords of: 1 where the keyword is in the link's words and in the path or
    query of its URL, 2/3 where it is in the words alone, 1/3 in the URL alone. Words are compared
    without case and accents; a word fits that begins with the keyword ("contact" is in
    "contacts"). A keyword of several words fits where all of them do.
    """
    if not keywords:
        return 0.0
    parts = urlsplit(url)
    in_text, in_url = _words(text), _words(unquote(f"{parts.path} {parts.query}"))
    return sum(2 * _fits(keyword, in_text) + _fits(keyword, in_url) for keyword in keywords) / (
        3 * len(keywords)
    )


def _fits(keyword: str, words: frozenset[str]) -> bool:
    wanted = _words(keyword)
    return bool(wanted) and all(any(word.startswith(w) for word in words) for w in wanted)


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return frozenset(_WORD.findall("".join(c for c in folded if not unicodedata.combining(c))))
