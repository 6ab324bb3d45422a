"""The people of the world: real legislators, and others who only share their names."""

from __future__ import annotations

import csv
import random
import re
import unicodedata
from dataclasses import dataclass

from tests.support import data_dir

COLUMNS = ("phone", "email", "party", "district", "address")

_NAMES = (
    "AL Alabama|AK Alaska|AZ Arizona|AR Arkansas|CA California|CO Colorado|CT Connecticut|"
    "DE Delaware|FL Florida|GA Georgia|HI Hawaii|ID Idaho|IL Illinois|IN Indiana|IA Iowa|KS Kansas|"
    "KY Kentucky|LA Louisiana|ME Maine|MD Maryland|MA Massachusetts|MI Michigan|MN Minnesota|"
    "MS Mississippi|MO Missouri|MT Montana|NE Nebraska|NV Nevada|NH New Hampshire|NJ New Jersey|"
    "NM New Mexico|NY New York|NC North Carolina|ND North Dakota|OH Ohio|OK Oklahoma|OR Oregon|"
    "PA Pennsylvania|RI Rhode Island|SC South Carolina|SD South Dakota|TN Tennessee|TX Texas|"
    "UT Utah|VT Vermont|VA Virginia|WA Washington|WV West Virginia|WI Wisconsin|WY Wyoming"
)
STATES = dict(pair.split(" ", 1) for pair in _NAMES.split("|"))
"""Postal code -> name."""

NAMESAKE_STATES = {"MI": "517", "GA": "404", "CO": "303", "OR": "503", "FL": "850", "MN": "651"}
"""Where namesakes sit, none of them a state of the real people, with an area code."""
AREAS = {"CA": "916", "TX": "512", "NY": "518", "WA": "360", "OH": "614"} | NAMESAKE_STATES

_CHAMBERS = {
    ("CA", "lower"): ("www.assembly.ca.gov", "California State Assembly", "Assemblymember"),
    ("CA", "upper"): ("www.senate.ca.gov", "California State Senate", "Senator"),
    ("TX", "lower"): ("www.house.texas.gov", "Texas House of Representatives", "Representative"),
    ("TX", "upper"): ("www.senate.texas.gov", "Texas Senate", "Senator"),
    ("NY", "lower"): ("www.nyassembly.gov", "New York State Assembly", "Assemblymember"),
    ("NY", "upper"): ("www.nysenate.gov", "New York State Senate", "Senator"),
    ("WA", "lower"): ("house.leg.wa.gov", "Washington House of Representatives", "Representative"),
    ("WA", "upper"): ("senate.leg.wa.gov", "Washington State Senate", "Senator"),
    ("OH", "lower"): ("www.ohiohouse.gov", "Ohio House of Representatives", "Representative"),
    ("OH", "upper"): ("www.ohiosenate.gov", "Ohio Senate", "Senator"),
}


@dataclass(frozen=True)
class Chamber:
    """Where it publishes, what it is called, and how its members are addressed."""

    host: str
    name: str
    honorific: str


@dataclass(frozen=True)
class Person:
    """A legislator; `facts` has the true values by column, as the table writes them."""

    name: str
    state: str
    chamber: str
    facts: dict[str, str]

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.state

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z]+", "-", plain(self.name)).strip("-")

    @property
    def seat(self) -> Chamber:
        return chamber_of(self.state, self.chamber)


def plain(text: str) -> str:
    """Fold case, accents and blanks."""
    bare = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in bare if not unicodedata.combining(c)).casefold().split())


def code_of(state: str) -> str:
    """Return the postal code of a state that is written in either way."""
    return _CODES.get(plain(state), state.upper())


_CODES = {plain(name): code for code, name in STATES.items()}


def chamber_of(state: str, chamber: str) -> Chamber:
    """Return a chamber; those of namesakes are all made alike."""
    if (state, chamber) in _CHAMBERS:
        return Chamber(*_CHAMBERS[state, chamber])
    named = ("House of Representatives", "Representative")
    kind, honorific = named if chamber == "lower" else ("Senate", "Senator")
    return Chamber(f"www.legislature.{state.lower()}.gov", f"{STATES[state]} {kind}", honorific)


def load() -> list[Person]:
    """Read the real people, or skip."""
    path = data_dir("people") / "legislators.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [_person(row) for row in csv.DictReader(file)]


def _person(row: dict[str, str]) -> Person:
    facts = {
        "phone": row["capitol_phone"],
        "email": row["email"],
        "party": row["party"].partition("/")[0],
        "district": row["district"],
        "address": row["capitol_address"],
    }
    return Person(row["name"], row["state"], row["chamber"], facts)


def namesake(person: Person, chance: random.Random) -> Person:
    """Invent somebody of the same name who holds a seat in another state."""
    state = chance.choice(sorted(NAMESAKE_STATES))
    last = plain(person.name).split()[-1].replace("'", "")
    other = {"Democratic": "Republican", "Republican": "Democratic"}
    facts = {
        "phone": phone(state, chance),
        "email": f"{last}@legislature.{state.lower()}.gov",
        "party": other[person.facts["party"]],
        "district": str((int(person.facts["district"]) + chance.randint(3, 30)) % 90 + 1),
        "address": f"{chance.randint(100, 999)} Capitol Ave., {STATES[state]} State House, "
        f"Room {chance.randint(10, 99)}, {state} {chance.randint(30000, 90000)}",
    }
    return Person(person.name, state, chance.choice(("lower", "upper")), facts)


def former(person: Person, chance: random.Random) -> dict[str, str]:
    """Invent the telephone and the address that somebody had before."""
    ending = person.facts["address"].rpartition(", ")[2]
    room = f"Room {chance.randint(1000, 1999)}, {chance.randint(2, 99)} Old Annex, {ending}"
    return {"phone": phone(person.state, chance), "address": room}


def phone(state: str, chance: random.Random) -> str:
    """Invent a number of the state's capital; none of the real ones is in this exchange."""
    return f"{AREAS[state]}-55{chance.randint(0, 9)}-{chance.randint(1000, 9999)}"
