"""How the model reads: labels, tables and links of the pages it is shown, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from .people import STATES, code_of, plain

PHONE = re.compile(r"(?<!\d)(?:(?:\+?1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]|\+1\d{6})\d{4}(?!\d)")
EMAIL = re.compile(r"[\w.'+-]+@[\w-]+(?:\.[\w-]+)+")
ORDERS = re.compile(r"\bignore (?:all )?previous instructions", re.IGNORECASE)

_PARTY = re.compile(r"\b(Democrat|Republican)|\b([DR])-[A-Z]{2}\b|\(([DR])\)")
_PARTY_LABEL = re.compile(r"\bparty\b|\bcaucus\.|\([DR]-[A-Z]{2}\)", re.IGNORECASE)
_DISTRICT = re.compile(r"\bdistrict(?: number)?[\s:|*-]*(\d{1,3})\b(?![-.)]? ?\d)", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?:.*?\boffice of .{3,60}? is at |.*?(?:address|office|former[^:]*)[\s*]*[:|][\s*]*)?\s*"
    r"(\S.*\b[A-Z]{2} \d{5})\b",
    re.IGNORECASE,
)
_ZIP = re.compile(r"\b[A-Z]{2} \d{5}\b")
_NOT_THE_CAPITOLS = re.compile(r"district office|fax|media|press|newsroom|clerk", re.IGNORECASE)
_PAST = re.compile(r"\bformer|\buntil \d{4}|\barchived|\bno longer\b", re.IGNORECASE)
_DAY = re.compile(r"^(\d{4})-\d\d-\d\d$", re.MULTILINE)
_SOMEBODY = re.compile(r"^[A-Z][\w.’'-]+(?: [A-Z][\w.’'-]*){1,4}$")
_BODY = re.compile(r"\b(?:Party|Assembly|Senate|House)\b")
_STATE_NAMES = frozenset(STATES.values())
_MARKS = re.compile(r"^[\s#>*|-]+|[\s*|]+$")
_HONORIFIC = re.compile(r"^(?:Assemblymember|Senator|Representative) ")
YEARS_UNTIL_PAST = 2


@dataclass(frozen=True)
class Shown:
    """A page as the prompt shows it; `number` is what answers call it by."""

    number: int
    url: str
    title: str
    text: str
    dated: str = ""


@dataclass(frozen=True)
class Found:
    """A value as the page writes it.

    Attributes:
        quote: verbatim.
        is_past: the page, or the line, says that it held before.
        is_namesakes: the page is about somebody of that name elsewhere.
    """

    column: str
    value: str
    quote: str
    page: Shown
    is_past: bool = False
    is_namesakes: bool = False


@dataclass
class _Reader:
    """A walk down one page, line by line, that knows whose lines these are.

    Attributes:
        name: folded.
        owner: whose the lines are: `mine`, `namesake`, or nobody's that matters.
        header: names of the columns of a table of many people.
    """

    name: str
    state: str
    page: Shown
    is_old: bool
    owner: str = ""
    header: list[str] = field(default_factory=list)
    before: str = ""
    is_aside: bool = False

    def found(self) -> Iterator[Found]:
        self.owner = self._whose(self.page.title)
        for line, bare in _lines(self.page.text):
            if not self._aside(bare):
                yield from self._line(line, bare)
                self.before = line

    def _aside(self, bare: str) -> bool:
        """Say whether a line is in the list of colleagues, after which the page goes on."""
        if bare == "Other members":
            self.is_aside, self.owner = True, self._whose(self.page.title)
        self.is_aside = self.is_aside and bool(bare == "Other members" or is_name(bare))
        return self.is_aside

    def _whose(self, line: str) -> str:
        """Say whose a line is that may name the person; the page may say of which state."""
        if self.name not in _folded(line):
            return ""
        if mentions(self.state, line):
            return "mine"
        if any(mentions(state, line) for state in STATES if state != self.state):
            return "namesake"
        return "mine" if mentions(self.state, self.around) else "namesake"

    @property
    def around(self) -> str:
        return f"{self.page.title}\n{self.page.text}"

    def _line(self, line: str, bare: str) -> Iterator[Found]:
        cells = [cell.strip() for cell in bare.split("|")]
        if cells[0] == "Name" and len(cells) > 1:
            self.header = [plain(cell) for cell in cells]
            return
        if self.header and len(cells) >= 2:
            if self.name == _folded(cells[0]):
                yield from self._row(line, cells, self._whose(cells[0]))
            return
        if whose := self._whose(bare):
            # A sentence that merely names the person again does not change whose section it is.
            short = len(bare) < 80 and not bare.endswith(".")
            self.owner = whose if short or not self.owner else self.owner
        elif is_name(bare):
            self.owner = ""
        if self.owner:
            yield from self._values(line, bare)

    def _row(self, line: str, cells: list[str], owner: str) -> Iterator[Found]:
        for label, cell in zip(self.header, cells, strict=False):
            column = "email" if label in {"", "e-mail"} else label
            if column in {"phone", "email", "party", "district"} and cell.strip("—- "):
                yield self._of(column, _party(cell) if column == "party" else cell, line, owner)

    def _values(self, line: str, bare: str) -> Iterator[Found]:
        label = _MARKS.sub("", self.before)
        is_label = 0 < len(label) < 30 and not any(c.isdigit() for c in label)
        both = f"{label}\n{bare}" if is_label else bare
        quote = (
            f"{self.before}\n{line}" if is_label and ":" not in bare and "|" not in bare else line
        )
        if (number := PHONE.search(bare)) and not _NOT_THE_CAPITOLS.search(both):
            yield self._of("phone", number[0], quote)
        if email := EMAIL.search(bare):
            yield self._of("email", email[0], quote)
        if _PARTY_LABEL.search(both) and (value := _party(bare)):
            yield self._of("party", value, quote)
        if (district := _DISTRICT.search(both)) and district[1] in bare:
            yield self._of("district", district[1], quote)
        if _ZIP.search(bare) and (address := _ADDRESS.match(bare)):
            yield self._of("address", address[1].strip(), quote)

    def _of(self, column: str, value: str, quote: str, owner: str | None = None) -> Found:
        past = self.is_old or bool(_PAST.search(quote))
        is_namesakes = (self.owner if owner is None else owner) == "namesake"
        return Found(column, value, quote, self.page, past, is_namesakes)


def read_page(keys: Mapping[str, str], page: Shown) -> list[Found]:
    """Return all that a page seems to say of a person, in its order."""
    name = plain(keys["name"])
    if name not in _folded(page.title) and name not in _folded(page.text):
        return []
    return list(_Reader(name, code_of(keys["state"]), page, is_old(page)).found())


@lru_cache(maxsize=4096)
def _lines(text: str) -> list[tuple[str, str]]:
    """Return the lines that say something and give no orders, with their marks and without."""
    bare = ((line.strip(), _MARKS.sub("", line)) for line in text.split("\n"))
    return [(line, words) for line, words in bare if words and not ORDERS.search(words)]


@lru_cache(maxsize=65_536)
def _folded(text: str) -> str:
    return plain(text)


def is_old(page: Shown) -> bool:
    """Say whether a page calls itself archived, or is dated years ago."""
    this_year = datetime.now(UTC).year
    days = [*_DAY.findall(page.text), *([page.dated[:4]] if page.dated[:4].isdigit() else [])]
    archived = _PAST.search(page.title) or "This archived page" in page.text
    return bool(archived) or any(int(year) < this_year - YEARS_UNTIL_PAST for year in days)


def is_name(bare: str) -> bool:
    """Say whether a line looks like the name of a person and nothing more."""
    text = _HONORIFIC.sub("", bare)
    return bool(_SOMEBODY.match(text)) and text not in _STATE_NAMES and not _BODY.search(text)


def mentions(state: str, text: str) -> bool:
    """Say whether a text names a state, in full or by its postal code."""
    return STATES[state] in text or bool(re.search(rf"(?<![A-Za-z]){state}(?![A-Za-z])", text))


def orders_on(page: Shown) -> str | None:
    """Return the line of a page that gives orders to its reader."""
    if not ORDERS.search(page.text):
        return None
    return next(line.strip() for line in page.text.split("\n") if ORDERS.search(line))


def _party(text: str) -> str | None:
    found = _PARTY.search(text)
    if not found:
        return None
    letter = (found[1] or found[2] or found[3])[0]
    return {"D": "Democratic", "R": "Republican"}[letter]
