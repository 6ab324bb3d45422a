"""Pages made by chance, of real names: nobody is given what is another's.

Their lists have names before or behind their values, in lines, items, tables, prose and cards, with
titles, in capitals or without any, between labels, places and other people, under a head and over a
foot that have numbers of their own.
"""

from __future__ import annotations

import csv
import random
from collections import Counter

import pytest

from llm_common.enrichment.states import NAMES
from tests.support import data_dir

from .pages import page, table
from .test_verifying import PHONE, judged

PAGES = 250
BETWEEN = [
    "Los Angeles", "Fresno", "Member since 2012", "Chair, Committee on Rules", "Democratic",
    "Read more", "Photo", "View profile", "District 24", "Born in Texas", "Biography", "Press",
    "Office hours", "Room 12", "1021 O Street", "Sacramento, CA 94249", "Jane Q. Public", "Staff",
    "Contact", "Capitol Office", "Website", "Represents Kern County",
]  # fmt: skip
HEADS = ("", "<p>Call 916-555-0199</p>", "<h1>Members</h1>", "<nav><p>Home</p><p>About</p></nav>")
FEET = ("", "<p>Questions? 916-555-0198</p>", "<p>© 2026</p><p>916-555-0198</p>")


def spelt(name: str, chance: random.Random) -> str:
    *given, family = name.split()
    forms = (
        name,
        name,
        name,
        name.upper(),
        f"{family}, {' '.join(given)}",
        f"Rep. {name}",
        name.lower(),
    )
    return chance.choice(forms)


def entries(names: list[str], phones: list[str], chance: random.Random) -> list[tuple[str, ...]]:
    is_before, is_spelt = chance.random() < 0.3, chance.random() < 0.5
    found: list[tuple[str, ...]] = []
    for name, phone in zip(names, phones, strict=True):
        more = chance.sample(BETWEEN, chance.randint(0, 4))
        cut = chance.randint(0, len(more))
        value = chance.choice(["Phone: ", ""]) + phone
        written = spelt(name, chance) if is_spelt else name
        first, last = (value, written) if is_before else (written, value)
        found.append((first, *more[:cut], last, *more[cut:]))
    return found


def layout(found: list[tuple[str, ...]], chance: random.Random) -> str:
    match chance.randrange(5):
        case 0:
            return "".join(f"<p>{part}</p>" for entry in found for part in entry)
        case 1:
            return "<ul>" + "".join(f"<li>{', '.join(entry)}</li>" for entry in found) + "</ul>"
        case 2:
            return table(found)
        case 3:
            return "<p>" + ". ".join(" ".join(entry) for entry in found) + ".</p>"
        case _:
            return "".join(f"<div>{' '.join(entry)}</div>" for entry in found)


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_given_what_is_anothers(seed: int) -> None:
    file = data_dir("people") / "legislators.csv"
    with file.open(encoding="utf-8") as opened:
        people = list(csv.DictReader(opened))
    chance = random.Random(seed)
    outcomes: Counter[tuple[bool, bool]] = Counter()
    for _ in range(PAGES):
        state = chance.choice(["CA", "NY", "OH", "TX", "WA"])
        names = chance.sample([p["name"] for p in people if p["state"] == state], 4)
        phones = [f"916-319-2{chance.randint(0, 9)}{n}0" for n in range(4)]
        mine = chance.randrange(4)
        title = chance.choice([f"{NAMES[state]} House members", f"{names[mine]} | {NAMES[state]}"])
        body = layout(entries(names, phones, chance), chance)
        shown = page(chance.choice(HEADS) + body + chance.choice(FEET), title)
        for phone in (*phones, "916-555-0199", "916-555-0198"):
            found = judged(shown, phone, phone, PHONE, {"name": names[mine], "state": state})
            is_given, is_own = found.verdict in ("verified", "repaired"), phone == phones[mine]
            assert is_own or not is_given, (names[mine], phone, shown["full_text"])
            outcomes[is_own, is_given] += 1
    assert outcomes[True, True] > PAGES / 2
