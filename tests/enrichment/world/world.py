"""The world: people, the pages about them, and what of the truth can be found there."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from llm_common.enrichment.models import Column, EnrichmentRequest

from .engine import Engine
from .pages import Known, Page, directories, pages_of
from .people import COLUMNS, Person, load, namesake

Why = Literal["", "nowhere", "closed", "outdated"]
KEYS = ("name", "state")
WANTED = (
    Column(name="phone", type="phone", description="telephone of the capitol office"),
    Column(name="email", type="email", description="official e-mail address"),
    Column(
        name="party",
        type="choice",
        description="the party that the member belongs to",
        choices=("Democratic", "Republican"),
    ),
    Column(name="district", type="integer", description="number of the legislative district"),
    Column(name="address", type="text", description="address of the capitol office"),
)


@dataclass(frozen=True)
class Truth:
    """What a cell should come to.

    Attributes:
        value: None where no page that may be read says it.
        why: ``nowhere``: no page says it; ``closed``: only a page that robots.txt forbids does;
            ``outdated``: only old pages say anything, and it holds no more.
    """

    value: str | None
    why: Why = ""


@dataclass(frozen=True)
class World:
    """Made once; `serve` puts it on loopback.

    Attributes:
        namesakes: by key of the person whose name they share.
        missing: why a cell has no value, by key and column.
    """

    seed: int
    people: tuple[Person, ...]
    namesakes: Mapping[tuple[str, str], Person]
    missing: Mapping[tuple[tuple[str, str], str], Why]
    pages: Mapping[str, Page]

    def rows(self, count: int | None = None) -> list[dict[str, str]]:
        """Return the table, keys only; people of all states are among the first."""
        return [{"name": p.name, "state": p.state} for p in self.people[:count]]

    def request(self, columns: Sequence[str] = COLUMNS) -> EnrichmentRequest:
        """Return what to ask for."""
        wanted = tuple(column for column in WANTED if column.name in columns)
        context = {"topic": "state legislator"}
        return EnrichmentRequest(keys=KEYS, columns_to_enrich=wanted, search_context=context)

    def truth(self, row: Mapping[str, Any], column: str) -> Truth:
        """Return what a cell of a row should come to."""
        person = self.by_key[row["name"], row["state"]]
        if why := self.missing.get((person.key, column)):
            return Truth(None, why)
        return Truth(person.facts[column])

    @cached_property
    def by_key(self) -> dict[tuple[str, str], Person]:
        return {person.key: person for person in self.people}

    @cached_property
    def engine(self) -> Engine:
        return Engine(tuple(self.pages.values()))


def make_world(seed: int = 1, *, count: int | None = None, missing: float = 0.06) -> World:
    """Make the world of so many people, all by default; the same for the same seed and year.

    Args:
        missing: share of cells that no page has a value for.
    """
    people = load()
    random.Random(f"{seed}/order").shuffle(people)
    people = people[:count]
    year = datetime.now(UTC).year
    lost: dict[tuple[tuple[str, str], str], Why] = {}
    twins: dict[tuple[str, str], Person] = {}
    pages: dict[str, Page] = {}
    chambers: defaultdict[tuple[str, str], list[Known]] = defaultdict(list)
    for person in people:
        chance = random.Random(f"{seed}/{person.key}")
        why = {c: _why(c, chance) for c in COLUMNS if chance.random() < missing}
        lost.update({(person.key, column): reason for column, reason in why.items()})
        if chance.random() < 0.15:
            twins[person.key] = namesake(person, chance)
        known = _known(person, why, chambers[person.state, person.chamber])
        for page in pages_of(known, twins.get(person.key), chance, year):
            pages[page.url] = page
        chambers[person.state, person.chamber].append(known)
    for where, members in sorted(chambers.items()):
        members.sort(key=lambda known: known.person.slug)
        for page in directories(members, random.Random(f"{seed}/{where}")):
            pages[page.url] = page
    return World(seed, tuple(people), twins, lost, pages)


def _known(person: Person, why: Mapping[str, Why], before: Sequence[Known]) -> Known:
    return Known(
        person,
        {column: value for column, value in person.facts.items() if column not in why},
        frozenset(c for c, reason in why.items() if reason == "closed"),
        frozenset(c for c, reason in why.items() if reason == "outdated"),
        tuple(known.person.name for known in before[-3:]),
    )


def _why(column: str, chance: random.Random) -> Why:
    drawn = chance.random()
    if drawn < 0.15:
        return "closed"
    # Nobody's party or e-mail address of before is on an old page.
    return "outdated" if drawn < 0.4 and column in {"phone", "address"} else "nowhere"
