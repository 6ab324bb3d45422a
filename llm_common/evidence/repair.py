"""Finding the passage that a slightly altered quote comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .folding import Token

RARE_TOKENS = 8
"""How many of a quote's rarest words vote for places in the text."""
PLACES = 12
"""How many places are tried."""

_NEGATIONS = "no not never none nor neither nothing nobody nowhere without cannot non hardly barely"
_TURNS = (
    "except unless only if before after until above below under over more less fewer most least "
    "all every any some each both either half double twice may might must shall should can could "
    "will would increase increases increased decrease decreases decreased reduce reduces reduced "
    "raise raises raised lower lowers lowered rise rises fell falls include includes including "
    "exclude excludes excluding allow allows allowed prohibit prohibits prohibited accept reject"
)
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety hundred thousand million billion trillion first second third fourth fifth percent "
    "dozen quarter"
)
_FUNCTION = (
    "a an the this that these those it its he she they we in on at of to by for from and or but "
    "as is are was were with there here such"
)
_PROTECTED = frozenset(f"{_NEGATIONS} {_TURNS} {_NUMBERS}".split())
_LIMITING = frozenset(f"{_NEGATIONS} except unless only".split())
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
_NEGATIVE_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis", "mis", "anti")


def edits_allowed(count: int) -> int:
    """Return how many words of a quote of `count` may be altered, missing or too many."""
    return 0 if count < 5 else 1 if count < 10 else 2


def find_passage(
    quote: Sequence[Token], text: Sequence[Token], index: Mapping[str, Sequence[int]]
) -> tuple[int, int] | None:
    """Return the first and last token of the passage nearest to the quote, or None.

    Args:
        index: folded word -> positions in `text`.
    """
    allowed = edits_allowed(len(quote))
    if sum(token.text not in index for token in quote) > allowed:
        return None
    # A word that stands twice in the quote can vote for a beginning behind the text's end.
    places = [place for place in _places(quote, index, allowed) if place < len(text)]
    for budget in range(allowed + 1):
        for place in places:
            last = _align(quote, text, 0, place, budget)
            if last is not None:
                return place, last
    return None


def limits(tokens: Sequence[Token]) -> bool:
    """Whether leaving these words out could turn a sentence into its opposite."""
    return any(t.text in _LIMITING or t.text.endswith("n't") for t in tokens)


def _places(
    quote: Sequence[Token], index: Mapping[str, Sequence[int]], allowed: int
) -> Iterator[int]:
    """Yield where the quote could begin, the places that most rare words agree on first."""
    known = [(i, token.text) for i, token in enumerate(quote) if token.text in index]
    known.sort(key=lambda pair: len(index[pair[1]]))
    votes: Counter[int] = Counter()
    for offset, word in known[:RARE_TOKENS]:
        votes.update(position - offset for position in index[word])
    seen: set[int] = set()
    for begin, _ in votes.most_common(PLACES):
        for shift in sorted(range(-allowed, allowed + 1), key=abs):
            place = begin + shift
            if place >= 0 and place not in seen:
                seen.add(place)
                yield place


def _align(
    quote: Sequence[Token], text: Sequence[Token], i: int, j: int, budget: int
) -> int | None:
    """Match the quote from `i` to the text from `j`; return the last token of the text."""
    while i < len(quote) and j < len(text) and quote[i].text == text[j].text:
        i, j = i + 1, j + 1
    if i == len(quote):
        return j - 1
    if budget == 0:
        return None
    for step_quote, step_text in ((1, 1), (1, 0), (0, 1)):
        if step_text and j == len(text):
            continue
        if not step_text and i in (0, len(quote) - 1):
            continue  # a passage must not shrink at its ends: a "not" may stand just outside
        ours, theirs = quote[i : i + step_quote], text[j : j + step_text]
        if _harmless(ours, theirs) and not (_unit(quote, i) or _unit(text, j)):
            last = _align(quote, text, i + step_quote, j + step_text, budget - 1)
            if last is not None:
                return last
    return None


def _unit(tokens: Sequence[Token], position: int) -> bool:
    """Whether a word follows a number, and so may say of what."""
    return position > 0 and tokens[position - 1].is_number


def _harmless(ours: Sequence[Token], theirs: Sequence[Token]) -> bool:
    """Whether a word may be altered (one each), added (`ours`) or left out (`theirs`)."""
    if any(_protected(token) for token in (*ours, *theirs)):
        return False
    return not any(_opposite(a.text, b.text) for a, b in zip(ours, theirs, strict=False))


def _protected(token: Token) -> bool:
    name = token.capital and token.text not in _FUNCTION_WORDS
    return name or token.is_number or token.text in _PROTECTED or token.text.endswith("n't")


def _opposite(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    if any(long == prefix + short for prefix in _NEGATIVE_PREFIXES):
        return True
    return long.removesuffix("less") == short.removesuffix("ful") != long
