"""States of the United States, where a text names one by its name or its postal code."""

from __future__ import annotations

import re
from functools import lru_cache

from .wording import plain, word_set

_LIST = (
    "AL Alabama;AK Alaska;AZ Arizona;AR Arkansas;CA California;CO Colorado;CT Connecticut;"
    "DE Delaware;DC District of Columbia;FL Florida;GA Georgia;HI Hawaii;ID Idaho;IL Illinois;"
    "IN Indiana;IA Iowa;KS Kansas;KY Kentucky;LA Louisiana;ME Maine;MD Maryland;"
    "MA Massachusetts;MI Michigan;MN Minnesota;MS Mississippi;MO Missouri;MT Montana;NE Nebraska;"
    "NV Nevada;NH New Hampshire;NJ New Jersey;NM New Mexico;NY New York;NC North Carolina;"
    "ND North Dakota;OH Ohio;OK Oklahoma;OR Oregon;PA Pennsylvania;PR Puerto Rico;RI Rhode Island;"
    "SC South Carolina;SD South Dakota;TN Tennessee;TX Texas;UT Utah;VT Vermont;VA Virginia;"
    "WA Washington;WV West Virginia;WI Wisconsin;WY Wyoming"
)
NAMES = {line[:2]: line[3:] for line in _LIST.split(";")}
_CODES = {plain(name): code for code, name in NAMES.items()}

_SEPARATE = r"(?<![^\W_])", r"(?![^\W_])"
_NAME = re.compile(
    rf"{_SEPARATE[0]}(?:Washington,? D\.?\s?C|"
    rf"{'|'.join(sorted(NAMES.values(), key=len, reverse=True))}){_SEPARATE[1]}",
    re.IGNORECASE,
)
_ANY_CODE = "|".join(NAMES)
_DEGREES = "MD|PA|MA|MS|DC|PR|ME"
_CODE = re.compile(
    rf"(?<![^\W_])(?P<zip>{_ANY_CODE})(?=\.?,?\s+\d{{5}}(?!\d))"  # CA 94249
    rf"|(?<=[,] )(?P<comma>{_ANY_CODE})(?=\s*(?:$|[|)\n;.,]))"  # Sacramento, CA
    rf"|(?<=\()(?P<round>{_ANY_CODE})(?=\))"  # (CA)
    rf"|(?<![^\W_])[DRIG]-(?P<party>{_ANY_CODE})(?![^\W_])"  # D-CA
    rf"|(?<![^\W_-])(?P<seat>{_ANY_CODE})-\d{{1,3}}(?![\w-])"  # CA-24
    rf"|(?:^|(?<=\| )|(?<=: ))(?P<cell>{_ANY_CODE})(?=\s*(?:$|\|))",  # | CA |
    re.MULTILINE,
)
_PLACE_BEHIND = re.compile(
    r"\s+(?:city|county|beach|street|st|avenue|ave|blvd|boulevard|road|rd|drive|springs|lake|river|"
    r"heights|falls|square|place|post|times|park)\b",
    re.IGNORECASE,
)
_GIVEN_NAMES = word_set("virginia georgia carolina dakota montana washington")
_CAPITAL_BEFORE = re.compile(r"\b([A-Z][\w'’.-]*)\s+$")
_CAPITAL_BEHIND = re.compile(r"\s+([A-Z][a-z'’-]+)\b")
_FITTING = word_set(
    "state house senate assembly legislature general governor attorney department supreme court "
    "representative senator democrats republicans republican democratic democrat in of from and "
    "the northern southern eastern western central"
)
_PURE = re.compile(r"^(?:the\s+)?(?:state|commonwealth)\s+of\s+|\s+\(?\d*\)?$", re.IGNORECASE)

Place = tuple[str, int, int]


def state_of(text: str) -> str | None:
    """Return the postal code that a name or a code stands for."""
    value = _PURE.sub("", text.strip())
    if value.upper() in NAMES:
        return value.upper()
    return _CODES.get(plain(value))


@lru_cache(maxsize=8192)
def states_in(text: str) -> tuple[Place, ...]:
    """Return the states that a text names, as code, start and end.

    ``Indiana, PA``, ``Iowa City``, ``Virginia Foxx`` and ``John Smith, MD`` name no Indiana, Iowa,
    Virginia or Maryland.
    """
    places: list[Place] = []
    for match in _CODE.finditer(text):
        kind = match.lastgroup or "zip"
        code = match[kind]
        if kind in ("comma", "cell") and code in _DEGREES.split("|"):
            continue
        places.append((code, match.start(kind), match.end(kind)))
    for match in _NAME.finditer(text):
        if _is_state(match, text):
            code = _CODES.get(plain(match[0]), "DC")
            places.append((code, match.start(), match.end()))
    return tuple(sorted(places, key=lambda place: place[1]))


def only_state(line: str) -> str | None:
    """Return the state that a line names, if it says nothing else."""
    return state_of(line) if len(line) <= 40 else None


def _is_state(match: re.Match[str], text: str) -> bool:
    if not match[0][0].isupper() or _PLACE_BEHIND.match(text, match.end()):
        return False
    behind = text[match.end() : match.end() + 12]
    if re.match(rf",\s+(?:{_ANY_CODE})\b", behind):
        return False
    if plain(match[0]).split()[-1] not in _GIVEN_NAMES or " " in match[0]:
        return True
    before = _CAPITAL_BEFORE.search(text[max(0, match.start() - 30) : match.start()])
    after = _CAPITAL_BEHIND.match(text, match.end())
    return not (before and plain(before[1]).rstrip(".") not in _FITTING) and not (
        after and plain(after[1]) not in _FITTING
    )
