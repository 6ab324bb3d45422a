"""How sites write a person down: several layouts, one notation of each value per page.

What is not among the facts is not on the page, in no form: that is how cells without a page come
about.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from .people import STATES, Person, phone

BIO = (
    "{last} chairs a committee and sits on two more.",
    "Before the election {last} worked as a teacher, and later for a housing trust.",
    "The office holds open hours every other Friday.",
    "{last} wrote laws on clean water, school meals and rural broadband.",
    "Two bills by {last} were signed this year, and one was vetoed.",
    "{name} lives near the river with a family of five and an old dog.",
    "Interns are welcome all year round; apply six weeks ahead.",
    "The newsletter comes out once a month and answers readers' questions.",
    "Tours of the building start at ten, at noon and at three.",
    "{last} grew up on a farm and went to the state's own university.",
)


@dataclass(frozen=True)
class Said:
    """What one page says of one person.

    Attributes:
        facts: in the notation of the page, by column.
        state: in the notation of the page, a name or a postal code.
    """

    person: Person
    facts: Mapping[str, str]
    state: str
    chance: random.Random

    @property
    def name(self) -> str:
        return escape(self.person.name)

    @property
    def heading(self) -> str:
        return f"{self.person.seat.honorific} {self.name}"

    def has(self, column: str) -> bool:
        return column in self.facts


def said(person: Person, facts: Mapping[str, str], chance: random.Random) -> Said:
    """Choose how a page writes what it says."""
    party = facts.get("party", "")
    short = "Democrat" if party == "Democratic" else party
    written = dict(facts)
    if party:
        written["party"] = chance.choice((short, party, f"{party} Party", f"({party[0]})"))
    if number := facts.get("phone"):
        written["phone"] = notation(number, chance)
    if "email" in facts and chance.random() < 0.2:
        written["email"] = facts["email"].title()
    state = STATES[person.state] if chance.random() < 0.8 else person.state
    return Said(person, written, state, chance)


def notation(number: str, chance: random.Random) -> str:
    """Write a telephone number in one of the usual ways."""
    area, exchange, line = number.split("-")
    return chance.choice((
        f"({area}) {exchange}-{line}",
        f"{area}.{exchange}.{line}",
        f"+1 {area} {exchange} {line}",
        f"{area}-{exchange}-{line}",
    ))  # fmt: skip


def document(title: str, body: str, *, head: str = "", published: str | None = None) -> str:
    """Put a body into a page with a head."""
    dated = f'<meta property="article:published_time" content="{published}">' if published else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"{dated}{head}</head><body>{body}</body></html>"
    )


def biography(said_: Said, count: int = 4) -> str:
    """Return paragraphs that say nothing that is asked for."""
    last = escape(said_.person.name.split()[-1])
    chosen = said_.chance.sample(BIO, count)
    return "".join(f"<p>{line.format(last=last, name=said_.name)}</p>" for line in chosen)


def rows_of(s: Said) -> list[tuple[str, str]]:
    """Return labels and values as HTML; the office at home has a telephone of its own."""
    labels = {
        "district": ("District", "District number"),
        "party": ("Party", "Political party"),
        "address": ("Capitol office", "Address", "Mailing address"),
        "phone": ("Phone", "Capitol phone", "Telephone", "Tel."),
        "email": ("E-mail", "Email"),
    }
    made = [("State", s.state)]
    for column, names in labels.items():
        if s.has(column):
            made.append((s.chance.choice(names), escape(s.facts[column])))
    if s.chance.random() < 0.3:
        made.append(("District office phone", phone(s.person.state, s.chance)))
    return made


def definition_list(s: Said) -> str:
    items = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in rows_of(s))
    return f"<h1>{s.heading}</h1><dl>{items}</dl><h2>Biography</h2>{biography(s)}"


def table(s: Said) -> str:
    rows = "".join(f"<tr><th>{label}</th><td>{value}</td></tr>" for label, value in rows_of(s))
    return f"<h1>{s.name}</h1><table>{rows}</table><h2>About {s.name}</h2>{biography(s)}"


def labelled_lines(s: Said) -> str:
    lines = "<br>".join(f"<strong>{label}:</strong> {value}" for label, value in rows_of(s))
    return f"<h1>{s.heading}</h1>{biography(s, 2)}<h2>Contact</h2><p>{lines}</p>"


def prose(s: Said) -> str:
    parts = [f"{s.heading} serves in the {s.person.seat.name}, {s.state}."]
    if s.has("party"):
        word = s.facts["party"].strip("()")
        word = {"D": "Democratic", "R": "Republican"}.get(word, word)
        parts.append(f"{s.name} belongs to the {word.removesuffix(' Party')} caucus.")
    if s.has("district"):
        parts.append(f"{s.name} represents District {s.facts['district']}.")
    if s.has("address"):
        parts.append(f"The capitol office of {s.name} is at {escape(s.facts['address'])}.")
    if s.has("phone"):
        parts.append(f"To reach {s.name} at the capitol, call {s.facts['phone']}.")
    if s.has("email"):
        parts.append(f"{s.name} reads e-mail sent to {escape(s.facts['email'])}.")
    body = "".join(f"<p>{part}</p>" for part in parts)
    return f"<h1>{s.heading}</h1>{body}{biography(s, 3)}"


def card(s: Said) -> str:
    """Say the telephone and the e-mail by links alone."""
    lines = [f"<h2>{s.heading}</h2>", f"<p>{s.person.seat.name}, {s.state}</p>"]
    if s.has("party"):
        lines.append(f'<p class="party">Party: {s.facts["party"]}</p>')
    if s.has("district"):
        lines.append(f"<p>District {s.facts['district']}</p>")
    if s.has("phone"):
        digits = "".join(c for c in s.facts["phone"] if c.isdigit())[-10:]
        lines.append(f'<p><a href="tel:+1{digits}">Call the capitol office</a></p>')
    if s.has("email"):
        lines.append(f'<p><a href="mailto:{escape(s.facts["email"])}">Send an e-mail</a></p>')
    if s.has("address"):
        lines.append(f"<address>{escape(s.facts['address'])}</address>")
    return f'<div class="vcard">{"".join(lines)}</div><h1>About</h1>{biography(s)}'


def linked_data(s: Said) -> str:
    """Say everything in JSON-LD, and in words next to nothing."""
    person = s.person
    data: dict[str, object] = {
        "@context": "https://schema.org",
        "@type": "Person",
        "name": person.name,
        "jobTitle": person.seat.honorific,
        "worksFor": {"@type": "Organization", "name": person.seat.name},
    }
    names = {"phone": "telephone", "email": "email", "address": "address"}
    data |= {there: s.facts[here] for here, there in names.items() if s.has(here)}
    if s.has("party"):
        data["affiliation"] = {"@type": "Organization", "name": f"{person.facts['party']} Party"}
    if s.has("district"):
        data["description"] = (
            f"{person.name} of {s.state} represents district {s.facts['district']}"
        )
    written = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    script = f'<script type="application/ld+json">{written}</script>'
    return f"{script}<h1>{s.heading}</h1><p>{person.seat.name}, {s.state}</p>{biography(s)}"


LAYOUTS: tuple[Callable[[Said], str], ...] = (
    definition_list,
    table,
    labelled_lines,
    prose,
    card,
    linked_data,
)


def directory(title: str, members: list[Said], columns: tuple[str, ...], *, cards: bool) -> str:
    """List many people, in one table or as a row of cards; ``—`` is where nothing is known."""
    if cards:
        body = "".join(_listed_card(member, columns) for member in members)
        return f"<h1>{title}</h1><ul>{body}</ul>"
    head = "".join(f"<th>{column.capitalize()}</th>" for column in ("name", *columns))
    rows = "".join(_listed_row(member, columns) for member in members)
    return f"<h1>{title}</h1><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _listed_row(s: Said, columns: tuple[str, ...]) -> str:
    cells = "".join(f"<td>{escape(s.facts.get(column, '—'))}</td>" for column in columns)
    return f"<tr><td>{s.name}</td>{cells}</tr>"


def _listed_card(s: Said, columns: tuple[str, ...]) -> str:
    lines = "".join(
        f"<p>{column.capitalize()}: {escape(s.facts[column])}</p>"
        for column in columns
        if s.has(column)
    )
    return f"<li><h3>{s.name}</h3>{lines}</li>"
