"""A model that reads what it is shown, knows nothing else, and errs at set rates.

Whether it errs is drawn from a hash of what it was shown for a row, and of how often it was asked
that: the same in every run, however calls overlap, and another try can do better.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_common.testing import Answer, RecordedRequest

from .people import NAMESAKE_STATES, STATES, phone
from .protocol import Asked, Said, read, write
from .reading import PHONE, Found, orders_on, read_page

Kind = Literal["invented", "namesake", "outdated", "obeyed", "altered", "dropped", "malformed"]


@dataclass(frozen=True)
class Rates:
    """How often it errs, as shares.

    Attributes:
        invented: of cells: no page has the value; the quote is invented or of something else.
        namesake: of cells for which a namesake's value is shown: that one, truly quoted.
        outdated: of cells for which an old value is shown: that one, truly quoted.
        obeyed: of cells for which a page with orders is shown: what it orders.
        altered: of cells read right: a word of the quote is changed, left out, or set otherwise.
        dropped: of rows.
        malformed: of calls: the answer is no JSON.
    """

    invented: float = 0.05
    namesake: float = 0.05
    outdated: float = 0.05
    obeyed: float = 0.2
    altered: float = 0.03
    dropped: float = 0.03
    malformed: float = 0.03


NEVER = Rates(0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Mistake:
    """One mistake; of a row or a call, `column` is empty."""

    kind: Kind
    row: tuple[str, ...]
    column: str = ""
    value: str = ""


@dataclass
class Model:
    """Answers requests; `respond` is what a `ProviderServer` takes.

    Attributes:
        asked: how many calls, rows and cells it was asked for, and for how many cells each kind of
            mistake was possible.
    """

    seed: int = 1
    rates: Rates = Rates()
    mistakes: list[Mistake] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    _times: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """Mistakes by kind."""
        return Counter(mistake.kind for mistake in self.mistakes)

    def respond(self, request: RecordedRequest) -> Answer | None:
        """Answer a request for rows; leave any other to the server's default."""
        if not isinstance(request.body, dict) or "messages" not in request.body:
            return None
        rows = read(request.body)
        if not rows:
            return None
        self.asked["calls"] += 1
        answered = [(row, cells) for row in rows if (cells := self._row(row)) is not None]
        written = write(answered)
        if self._chance(repr(request.body["messages"])).random() < self.rates.malformed:
            self._erred("malformed", ())
            text = json.dumps(written)
            return Answer(text=text[: len(text) * 2 // 3])
        return Answer(json=written)

    def _chance(self, shown: str) -> random.Random:
        """Return the dice of one asking."""
        digest = hashlib.sha256(f"{self.seed}/{shown}".encode("utf-8", "surrogatepass")).hexdigest()
        self._times[digest] += 1
        return random.Random(f"{digest}/{self._times[digest]}")

    def _row(self, row: Asked) -> list[Said] | None:
        self.asked["rows"] += 1
        # Not their numbers, nor how they were cut: these are for the call, not for the row.
        chance = self._chance(repr((row.keys, row.columns, [page.url for page in row.pages])))
        key = tuple(row.keys.values())
        if chance.random() < self.rates.dropped:
            self._erred("dropped", key)
            return None
        found = [each for page in row.pages for each in read_page(row.keys, page)]
        return [
            self._cell(row, column, [f for f in found if f.column == column], chance)
            for column in row.columns
        ]

    def _cell(self, row: Asked, column: str, found: Sequence[Found], chance: random.Random) -> Said:
        self.asked["cells"] += 1
        # Every cell draws alike, so that one more page changes no other cell's luck.
        drawn = {kind: chance.random() for kind in vars(self.rates)}
        dice = random.Random(chance.random())
        honest = _best([f for f in found if not f.is_namesakes])
        for kind, wrong in self._temptations(row, column, found, dice):
            self.asked[kind] += 1
            if drawn[kind] < getattr(self.rates, kind):
                self._erred(kind, tuple(row.keys.values()), column, wrong.value or "")
                return wrong
        if honest is None:
            return Said(column, None, reason="the pages do not say")
        quote = honest.quote
        if drawn["altered"] < self.rates.altered:
            quote = altered(quote, dice)
            self._erred("altered", tuple(row.keys.values()), column, honest.value)
        return Said(column, honest.value, quote, honest.page.number)

    def _temptations(
        self, row: Asked, column: str, found: Sequence[Found], dice: random.Random
    ) -> list[tuple[Kind, Said]]:
        """Return the wrong answers that lie at hand."""
        made: list[tuple[Kind, Said]] = []
        for page in row.pages:
            orders = orders_on(page)
            if orders and column == "phone" and (number := PHONE.search(orders)):
                made.append(("obeyed", Said(column, number[0], orders, page.number)))
        made.append(("invented", self._invented(row, column, dice)))
        twins = _best([f for f in found if f.is_namesakes])
        if twins:
            made.append(("namesake", _said(twins)))
        current = [f for f in found if not f.is_namesakes and not f.is_past]
        past = [f for f in found if not f.is_namesakes and f.is_past]
        if current and past:
            made.append(("outdated", _said(past[0])))
        return made

    def _invented(self, row: Asked, column: str, dice: random.Random) -> Said:
        value = invented(column, row.keys, dice)
        lines = [
            (line.strip(), page.number)
            for page in row.pages
            for line in page.text.split("\n")
            if len(line) > 30
        ]
        if lines and dice.random() < 0.5:
            quote, number = dice.choice(lines)
            return Said(column, value, quote, number)
        quote = f"{row.keys['name']}, {row.keys['state']}: the {column} is {value}."
        return Said(column, value, quote, row.pages[0].number if row.pages else None)

    def _erred(self, kind: Kind, row: tuple[str, ...], column: str = "", value: str = "") -> None:
        self.mistakes.append(Mistake(kind, row, column, value))


def _best(found: Sequence[Found]) -> Found | None:
    """Return the first that holds now, else the first."""
    return next((f for f in found if not f.is_past), next(iter(found), None))


def _said(found: Found) -> Said:
    return Said(found.column, found.value, found.quote, found.page.number)


def invented(column: str, keys: Mapping[str, Any], dice: random.Random) -> str:
    """Make up a value that looks right."""
    state = dice.choice(sorted(NAMESAKE_STATES))
    match column:
        case "phone":
            return phone(state, dice)
        case "email":
            return f"{str(keys['name']).split()[-1].lower()}{dice.randint(1, 99)}@example.gov"
        case "party":
            return dice.choice(("Democratic", "Republican"))
        case "district":
            return str(dice.randint(90, 140))
        case _:
            house, ending = dice.randint(1, 99), dice.randint(30_100, 30_999)
            return f"{house} Elm St., {STATES[state]} City, {state} {ending}"


def altered(quote: str, dice: random.Random) -> str:
    """Change a quote a little, as models do: never a number, for that is no slip of the pen."""
    words = quote.split()
    plain_words = [i for i, word in enumerate(words) if word.isalpha() and len(word) > 2]
    if not plain_words or dice.random() < 1 / 3:
        return quote.replace("'", "’").replace("-", "–").replace(". ", ".  ") + " "
    at = dice.choice(plain_words)
    if dice.random() < 0.5:
        return " ".join(words[:at] + words[at + 1 :])
    return " ".join([*words[:at], dice.choice(("the", "this", "an")), *words[at + 1 :]])
