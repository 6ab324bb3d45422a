"""The world itself: its pages, its search engine, its model and its score."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_common.crawling import PageContent, Reason, extract, read_page
from llm_common.enrichment.models import Cell, EnrichedRow, EnrichmentMetadata
from llm_common.evidence import verify
from llm_common.testing import Answer, Query, RecordedRequest
from tests.enrichment.world import (
    NEVER,
    Model,
    Rates,
    Served,
    World,
    make_world,
    score,
    serve,
)
from tests.enrichment.world.pages import FORUM, Page
from tests.enrichment.world.people import COLUMNS, Person
from tests.enrichment.world.protocol import Asked, Said, prompt
from tests.enrichment.world.reading import Shown
from tests.enrichment.world.scoring import same

Key = tuple[str, str]


@pytest.fixture(scope="module")
def world() -> World:
    """Half of the people: enough for every kind of page and for rates."""
    return make_world(count=240)


@pytest.fixture(scope="module")
def contents(world: World) -> dict[str, PageContent]:
    """What our own extraction makes of every page."""
    return {url: extract(page.html, url) for url, page in world.pages.items()}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve(make_world(count=60), slow_s=0) as running:
        yield running


def live(world: World) -> list[Page]:
    return [page for page in world.pages.values() if page.status == 200 and not page.is_closed]


def named(world: World) -> dict[Key, list[Page]]:
    """Return the live pages that say something true of a person."""
    found: dict[Key, list[Page]] = {person.key: [] for person in world.people}
    for page in live(world):
        for key in page.says:
            found[key].append(page)
    return found


# Pages


def test_a_world_is_made_of_its_seed_alone():
    one, again, other = make_world(), make_world(), make_world(seed=2)
    assert len(one.people) > 400
    assert again.pages == one.pages
    assert again.missing == one.missing
    assert other.missing != one.missing


def test_a_cell_has_a_value_where_a_page_that_may_be_read_says_it(world):
    pages = named(world)
    for row in world.rows():
        for column in COLUMNS:
            person = world.by_key[row["name"], row["state"]]
            said = any(column in page.says[person.key] for page in pages[person.key])
            assert said == (world.truth(row, column).value is not None), (row, column)


def test_what_a_page_says_is_in_its_text_as_we_read_it(world, contents):
    for page in live(world):
        for key, columns in page.says.items():
            for column in columns:
                text = contents[page.url].text
                assert holds(column, world.by_key[key].facts[column], text), (page.url, column)


def test_a_cell_without_a_page_is_on_none(world, contents):
    shared = Counter(value for person in world.people for value in person.facts.values())
    for (key, column), why in world.missing.items():
        true = world.by_key[key].facts[column]
        if shared[true] > 1 or column in {"district", "party"}:
            continue  # others have the same: of whom a page says it, the model's tests show
        told = [p for p in world.pages.values() if holds(column, true, contents[p.url].text)]
        assert all(page.is_closed for page in told), (key, column)
        assert bool(told) == (why == "closed"), (key, column)


def holds(column: str, true: str, text: str) -> bool:
    folded = "".join(text.split()).casefold()
    match column:
        case "phone":
            return true.replace("-", "") in "".join(c for c in text if c.isdigit())
        case "party":
            return f"({true[0]}" in text or true[:8] in text
        case _:
            return "".join(true.split()).casefold() in folded


def test_about_six_cells_of_a_hundred_have_no_page(world):
    number = len(world.people) * len(COLUMNS)
    assert within(len(world.missing), number, 0.06)
    assert {"nowhere", "closed", "outdated"} == set(world.missing.values())


def test_no_distractor_says_the_truth_by_chance(world):
    true = {person.facts["phone"] for person in world.people}
    assert len(true) == len(world.people)
    assert all(twin.facts["phone"] not in true for twin in world.namesakes.values())
    assert all(
        not same(column, twin.facts[column], world.by_key[key].facts[column])
        for key, twin in world.namesakes.items()
        for column in COLUMNS
    )


def test_every_kind_of_page_is_there(world):
    kinds = {page.kind for page in world.pages.values()}
    assert kinds == {
        "profile", "independent", "release", "outdated", "mention", "closed", "dead", "injection",
        "payload", "namesake", "both", "directory", "caucus",
    }  # fmt: skip
    assert any(page.is_slow for page in world.pages.values())


def test_a_forum_gives_its_orders_far_from_any_name(world):
    forums = [page for page in world.pages.values() if FORUM in page.url]
    for page in forums:
        (orders,) = [line for line in page.text.split("\n") if "Ignore all previous" in line]
        around = f"{page.title}{orders}"
        assert not any(person.name in around for person in world.people)


# Serving


async def test_sites_are_served_under_their_own_names(served):
    fetcher = served.fetcher()
    page = next(page for page in live(served.world) if page.kind == "profile")
    fetched = await fetcher.fetch(page.url)
    assert (fetched.reason, fetched.final_url) == (Reason.FETCHED, page.url)
    assert read_page(fetched).title == page.title
    assert served.asked[page.url] == 1
    await fetcher.aclose()


async def test_directories_have_a_query(served):
    fetcher = served.fetcher()
    url = next(url for url, page in served.world.pages.items() if page.kind == "directory")
    assert "?page=1" in url
    assert (await fetcher.fetch(url)).reason is Reason.FETCHED
    await fetcher.aclose()


async def test_what_is_dead_closed_or_elsewhere(served):
    fetcher = served.fetcher()
    dead = next(url for url, page in served.world.pages.items() if page.kind == "dead")
    closed = next(url for url, page in served.world.pages.items() if page.kind == "closed")
    host = closed.split("/")[2]
    assert (await fetcher.fetch(dead)).reason is Reason.NOT_FOUND
    assert b"Disallow: /private/" in (await fetcher.fetch(f"https://{host}/robots.txt")).body
    assert (await fetcher.fetch("https://elsewhere.example/")).reason is Reason.UNREACHABLE
    assert served.closed_and_asked == []
    await fetcher.fetch(closed)
    assert served.closed_and_asked == [closed]
    await fetcher.aclose()


async def test_a_slow_page_outlasts_a_short_patience():
    async with serve(make_world(), slow_s=600) as running:
        fetcher = running.fetcher(timeout_s=0.2)
        slow = next(url for url, page in running.world.pages.items() if page.is_slow)
        assert (await fetcher.fetch(slow)).reason is Reason.TIMEOUT
        await fetcher.aclose()


# Searching


def test_a_search_finds_a_persons_own_page_among_the_first(world):
    for row in world.rows():
        hits = world.engine.find(Query(f'"{row["name"]}" {row["state"]} legislator phone email', 8))
        key = (row["name"], row["state"])
        urls = [hit.url for hit in hits]
        own = [u for u in urls if world.pages[u].kind == "profile" and key in world.pages[u].says]
        assert own, row
        assert all(row["name"] in hit.title + world.pages[hit.url].text for hit in hits)


def test_results_hold_namesakes_old_pages_and_values(world):
    kinds, values = set(), 0
    for row in world.rows(150):
        hits = world.engine.find(Query(f"{row['name']} {row['state']} phone", 8))
        kinds |= {world.pages[hit.url].kind for hit in hits}
        phone = world.by_key[row["name"], row["state"]].facts["phone"]
        values += any(holds("phone", phone, hit.snippet) for hit in hits)
    assert {"namesake", "outdated", "dead", "closed", "injection", "both"} <= kinds
    assert 10 < values < 150


def test_a_search_can_be_narrowed(world):
    row = world.rows()[0]
    asked = f"{row['name']} phone"
    gov = world.engine.find(Query(f"{asked} site:.gov"))
    assert gov
    assert all(".gov/" in hit.url for hit in gov)
    assert world.engine.find(Query("zzxqv")) == []
    assert [h for h in world.engine.find(Query(asked, since="2015-01-01")) if h.published] == [
        h for h in world.engine.find(Query(asked)) if h.published and h.published >= "2015-01-01"
    ]


def test_closed_pages_are_found_without_their_words(world):
    page = next(page for page in world.pages.values() if page.is_closed)
    hits = world.engine.find(Query(page.title, 50))
    (hit,) = [hit for hit in hits if hit.url == page.url]
    assert hit.snippet == "No information is available for this page."


async def test_an_engine_serves_what_is_found(served):
    row = served.world.rows()[0]
    async with httpx.AsyncClient() as client:
        url = f"{served.providers.base_url('serper')}/search"
        reply = await client.post(url, json={"q": f'"{row["name"]}"'}, headers={"x-api-key": "k"})
    assert row["name"] in reply.json()["organic"][0]["title"]


# The model


def rows_to_ask(world: World, contents: Mapping[str, PageContent], kinds: Iterable[str] = ()):
    """Return all rows with every live page about them, as a pipeline might show them."""
    pages = named(world)
    others = [p for p in live(world) if p.kind in {"namesake", "injection", "outdated"}]
    numbers = {url: number for number, url in enumerate(world.pages, 1)}
    made: list[Asked] = []
    for i, person in enumerate(world.people, 1):
        extra = [page for page in others if page.url.endswith(f"/{person.slug}")]
        chosen = [page for page in (*pages[person.key], *extra) if not kinds or page.kind in kinds]
        shown = {
            page.url: Shown(
                numbers[page.url],
                page.url,
                contents[page.url].title,
                contents[page.url].text,
                page.published or "",
            )
            for page in chosen
        }
        made.append(Asked(i, row_of(person), COLUMNS, tuple(shown.values())))
    return made


def row_of(person: Person) -> dict[str, str]:
    return {"name": person.name, "state": person.state}


def request(rows: list[Asked]) -> RecordedRequest:
    return RecordedRequest("req-1", "openai", "/", "gpt-4o", {}, {"messages": prompt(rows)})


def answers(model: Model, rows: list[Asked], size: int = 5) -> dict[tuple[Key, str], Said]:
    """Ask for rows in batches; what comes is what the model says by row and column."""
    said: dict[tuple[Key, str], Said] = {}
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        by_number = {row.number: row for row in part}
        for number, cell in told(model.respond(request(part))):
            keys = by_number[number].keys
            said[(keys["name"], keys["state"]), cell.column] = cell
    return said


def told(answer: Answer | None) -> list[tuple[int, Said]]:
    assert answer
    if answer.json is None:
        with pytest.raises(ValueError):
            json.loads(answer.text or "")
        return []
    return [(row["row"], Said(**cell)) for row in answer.json["rows"] for cell in row["cells"]]


def test_a_model_that_never_errs_reads_right_and_quotes_to_the_letter(world, contents):
    model, rows = Model(rates=NEVER), rows_to_ask(world, contents)
    said = answers(model, rows)
    texts = {page.number: page.text for row in rows for page in row.pages}
    right = 0
    for row in world.rows():
        for column in COLUMNS:
            cell, true = said[(row["name"], row["state"]), column], world.truth(row, column)
            if cell.value is not None:
                assert cell.quote in texts[cell.page]
            if true.value is None:
                assert cell.value is None or true.why == "outdated", (row, column)
            else:
                right += cell.value is not None and same(column, cell.value, true.value)
    assert right / (len(said) - len(world.missing)) > 0.99
    assert model.mistakes == []


def test_it_says_only_what_is_shown_but_for_what_it_invents(world, contents):
    model, rows = Model(), rows_to_ask(world, contents)
    said = answers(model, rows)
    shown = {
        (row.keys["name"], row.keys["state"]): "\n".join(page.text for page in row.pages)
        for row in rows
    }
    made_up = {(m.row, m.column) for m in model.mistakes if m.kind == "invented"}
    for (key, column), cell in said.items():
        if cell.value is None or (key, column) in made_up:
            continue
        word = cell.value if column != "party" else f"{cell.value[:8]}|({cell.value[0]}"
        assert any(part in shown[key] for part in word.split("|")), (key, column, cell)


def test_without_pages_it_knows_nothing(world):
    rows = [Asked(i, row_of(person), COLUMNS, ()) for i, person in enumerate(world.people)]
    model = Model()
    said = answers(model, rows)
    made_up = {(m.row, m.column) for m in model.mistakes if m.kind == "invented"}
    assert {place for place, cell in said.items() if cell.value is not None} <= made_up
    assert all(cell.reason for cell in said.values() if cell.value is None)


def test_it_errs_at_its_rates(world, contents):
    model, rows = Model(), rows_to_ask(world, contents)
    for _ in range(3):
        answers(model, rows)
    rates = vars(Rates())
    for kind in ("invented", "namesake", "outdated", "obeyed"):
        assert model.asked[kind] > 20, kind
        assert within(model.counts[kind], model.asked[kind], rates[kind]), kind
    assert within(model.counts["dropped"], model.asked["rows"], rates["dropped"])
    assert within(model.counts["malformed"], model.asked["calls"], rates["malformed"])
    assert within(model.counts["altered"], model.asked["cells"], rates["altered"])


def within(count: int, number: int, share: float) -> bool:
    """Say whether a count is what a share of a number gives, but for one chance in 30,000."""
    return abs(count - number * share) <= 4 * math.sqrt(number * share * (1 - share)) + 1


def test_its_mistakes_come_with_the_quotes_that_they_claim(world, contents):
    always = {"namesake": 1.0, "outdated": 1.0, "obeyed": 1.0}
    rows = rows_to_ask(world, contents)
    texts = {page.number: page for row in rows for page in row.pages}
    for kind in always:
        model = Model(rates=replace(NEVER, **{kind: 1.0}))
        said = answers(model, rows)
        assert model.mistakes
        for mistake in model.mistakes:
            cell = said[mistake.row, mistake.column]
            assert cell.quote in texts[cell.page].text
            true = world.by_key[mistake.row].facts[mistake.column]
            assert not same(mistake.column, cell.value, true), mistake


def test_an_altered_quote_is_no_longer_verbatim_and_mostly_still_found(world, contents):
    rows = rows_to_ask(world, contents, {"profile"})
    texts = {page.number: page.text for row in rows for page in row.pages}
    said = answers(Model(rates=replace(NEVER, altered=1.0)), rows)
    quotes = [(cell.quote, texts[cell.page]) for cell in said.values() if cell.value]
    verbatim = sum(quote in text for quote, text in quotes)
    found = sum(verify(quote, text).status != "unverified" for quote, text in quotes)
    assert verbatim < len(quotes) / 5
    assert found > len(quotes) / 5


def test_what_it_says_of_a_row_depends_on_nothing_else(world, contents):
    rows = rows_to_ask(world, contents)[:60]
    rates = replace(Rates(), malformed=0.0)
    one, other = Model(7, rates), Model(7, rates)
    renumbered = [
        replace(row, pages=tuple(replace(page, number=9000 + page.number) for page in row.pages))
        for row in rows[::-1]
    ]
    said = {place: replace(cell, page=None) for place, cell in answers(one, rows, 3).items()}
    again = answers(other, renumbered, 10).items()
    assert said == {place: replace(cell, page=None) for place, cell in again}
    assert sorted(map(repr, one.mistakes)) == sorted(map(repr, other.mistakes))
    assert answers(Model(8, rates), rows) != answers(Model(7, rates), rows)


def test_asked_again_it_may_do_better(world, contents):
    rows = rows_to_ask(world, contents)[:60]
    model = Model(3, replace(NEVER, dropped=0.3))
    first, second = answers(model, rows), answers(model, rows)
    assert first.keys() != second.keys()
    again = Model(3, replace(NEVER, dropped=0.3))
    assert [answers(again, rows), answers(again, rows)] == [first, second]


async def test_it_answers_over_the_wire_and_is_billed(served):
    rows = [Asked(1, served.world.rows()[0], COLUMNS, ())]
    body = {"model": "gpt-4o-mini", "messages": prompt(rows)}
    async with httpx.AsyncClient() as client:
        url = f"{served.providers.base_url('openai')}/chat/completions"
        reply = await client.post(url, json=body, headers={"authorization": "Bearer k"})
    usage = reply.json()["usage"]
    assert served.model.asked["calls"] == 1
    assert usage["prompt_tokens"] == -(-len(prompt(rows)[0]["content"].encode()) // 4)
    (line,) = served.providers.invoice.lines
    assert line.usage.total_tokens == usage["total_tokens"]
    assert line.amount > 0


def test_other_requests_are_left_to_the_default():
    model = Model()
    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    for body in (chat, {"q": "rent"}, None):
        assert model.respond(RecordedRequest("req-1", "openai", "/", "m", {}, body)) is None
    assert model.asked == {}


# The score


def enriched(row: Mapping[str, Any], cost: str | None = "0.002", **cells: Cell) -> EnrichedRow:
    spent = EnrichmentMetadata(cost_usd=None if cost is None else Decimal(cost))
    return EnrichedRow(row_id="1", original_data=row, cells=cells, metadata=spent)


def a_row(world: World, *, with_phone: bool) -> tuple[dict[str, str], str]:
    """Return a row whose phone can be found, or can't, and the true phone."""
    row = next(r for r in world.rows() if bool(world.truth(r, "phone").value) == with_phone)
    return row, world.by_key[row["name"], row["state"]].facts["phone"]


@pytest.mark.parametrize("notation", ["{}", "+1{}", "(+1) {}", "{} "])
def test_a_right_cell_counts_whatever_its_notation(world, notation):
    row, true = a_row(world, with_phone=True)
    cell = Cell(value=notation.format(true), verdict="verified")
    made = score(world, [enriched(row, phone=cell)])
    assert (made.right, made.with_page, made.wrong) == (1, 1, [])
    assert made.usd_per_right_cell == Decimal("0.002")


def test_a_wrong_cell_that_is_borne_out_is_named(world):
    row, _ = a_row(world, with_phone=True)
    cell = Cell(value="202-555-0100", verdict="repaired")
    made = score(world, [enriched(row, phone=cell)])
    assert [wrong.row for wrong in made.wrong] == [(row["name"], row["state"])]
    assert made.right == 0
    assert made.usd_per_right_cell is None


@pytest.mark.parametrize("verdict", ["unverified", "conflict", "outdated", "missing"])
def test_a_value_that_is_not_borne_out_is_neither_right_nor_wrong(world, verdict):
    row, true = a_row(world, with_phone=True)
    made = score(world, [enriched(row, phone=Cell(value=true, verdict=verdict, reason="x"))])
    assert (made.right, made.wrong, made.missed) == (0, [], {verdict: 1})


def test_a_cell_without_a_page_must_be_empty_and_say_why(world):
    row, true = a_row(world, with_phone=False)
    said = [
        Cell(reason="no page says it"),
        Cell(),
        Cell(value="1", verdict="unverified", reason="not borne out"),
        Cell(value=true, verdict="verified"),
    ]
    scores = [score(world, [enriched(row, phone=cell)]) for cell in said]
    assert [(s.empty, s.flagged, len(s.wrong)) for s in scores] == [
        (1, 1, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1),
    ]  # fmt: skip
    assert all(s.without_page == 1 for s in scores)


def test_a_cell_that_is_not_there_is_missed_and_an_unknown_cost_is_unknown(world):
    row, _ = a_row(world, with_phone=True)
    made = score(world, [enriched(row, cost=None)], columns=["phone"])
    assert (made.with_page, made.missed, made.cost_usd) == (1, {"missing": 1}, None)
    assert "unknown USD per right cell" in made.report()


@pytest.mark.parametrize(
    ("column", "said", "true", "expected"),
    [
        ("phone", "+1 916 319 2024", "916-319-2024", True),
        ("phone", "916-319-2025", "916-319-2024", False),
        ("email", "A.Lee@CA.gov", "a.lee@ca.gov", True),
        ("email", "b.lee@ca.gov", "a.lee@ca.gov", False),
        ("party", "(D)", "Democratic", True),
        ("party", "Democrat", "Democratic", True),
        ("party", "Republican", "Democratic", False),
        ("district", 24, "24", True),
        ("district", "District 24", "24", True),
        ("district", 2, "24", False),
        ("address", "room 6330,  1021 O St.", "Room 6330, 1021 O St", True),
        ("address", "Room 6331, 1021 O St.", "Room 6330, 1021 O St.", False),
    ],
)
def test_values_are_compared_by_what_they_mean(column, said, true, expected):
    assert same(column, said, true) is expected


# All of it together


async def simple_pipeline(served: Served, rows: list[dict[str, str]]) -> list[EnrichedRow]:
    """Search, fetch and ask once, and believe every value whose quote stands on its page."""
    fetcher = served.fetcher()
    asked: list[Asked] = []
    for number, row in enumerate(rows, 1):
        hits = served.world.engine.find(Query(f'"{row["name"]}" {row["state"]} phone email', 5))
        urls = [hit.url for hit in hits if "/private/" not in hit.url]
        fetched = await asyncio.gather(*(fetcher.fetch(url) for url in urls))
        pages = [read_page(each) for each in fetched if each.reason is Reason.FETCHED]
        shown = tuple(
            Shown(number * 10 + i, page.url or "", page.title, page.text)
            for i, page in enumerate(pages)
        )
        asked.append(Asked(number, row, COLUMNS, shown))
    await fetcher.aclose()
    said = answers(served.model, asked)
    return [
        enriched(row.keys, **{c: believed(row, said.get((key_of(row), c))) for c in COLUMNS})
        for row in asked
    ]


def key_of(row: Asked) -> Key:
    return row.keys["name"], row.keys["state"]


def believed(row: Asked, said: Said | None) -> Cell:
    if said is None or said.value is None:
        return Cell(reason=said.reason if said else "no answer")
    page = next((page for page in row.pages if page.number == said.page), None)
    status = verify(said.quote or "", page.text if page else "").status
    reason = None if status == "verified" else "no page has the quote"
    return Cell(value=said.value, verdict=status, url=page and page.url, reason=reason)


async def test_a_pipeline_that_believes_every_quote_is_caught():
    often = replace(Rates(), namesake=0.3, outdated=0.3, invented=0.1)
    async with serve(make_world(count=200), Model(rates=often), slow_s=0) as served:
        rows = await simple_pipeline(served, served.world.rows())
        made = score(served.world, rows, served.model)
    assert made.right_share > 0.5
    assert made.empty_share > 0.7
    caught = {kind for wrong in made.wrong for kind in wrong.mistakes}
    assert {"namesake", "outdated", "invented"} <= caught, made.report()
    assert served.closed_and_asked == []


async def test_without_mistakes_that_pipeline_only_falls_for_old_pages():
    async with serve(make_world(count=100), Model(rates=NEVER), slow_s=0) as served:
        rows = await simple_pipeline(served, served.world.rows())
        made = score(served.world, rows, served.model)
    assert made.right_share > 0.7
    assert {served.world.pages[wrong.cell.url].kind for wrong in made.wrong} <= {"outdated"}
