"""What is searched for, and which results are worth a fetch."""

from __future__ import annotations

from typing import Any

from llm_common.enrichment.choosing import DefaultCrawlDecisionMaker, chosen
from llm_common.enrichment.models import Column
from llm_common.enrichment.queries import DefaultQueryStringBuilder, queries_for

COLUMNS = [Column.parse(text) for text in ("phone:phone", "email:email", "capitolAddress")]
JOHN = {"name": "John Smith", "state": "CA"}
KEYS = ("name", "state")


def test_one_query_at_first() -> None:
    (query,) = queries_for(JOHN, COLUMNS, KEYS, context={"topic": "state legislators"})
    assert query == '"John Smith" California state legislators phone email capitol address'


def test_later_rounds_ask_otherwise_and_for_weak_columns_only() -> None:
    rounds = [queries_for(JOHN, COLUMNS[:1], KEYS, round_no=number) for number in range(6)]
    assert len({query for queries in rounds for query in queries}) == sum(map(len, rounds))
    assert all("email" not in query for queries in rounds for query in queries)
    assert any("site:.gov" in query for query in rounds[1])
    assert not any('"' in query for query in rounds[2])


def test_rows_that_say_nothing_are_not_searched_for() -> None:
    assert queries_for({"name": "", "state": None}, COLUMNS, KEYS) == []
    assert queries_for(JOHN, [], KEYS) == []
    odd = queries_for({"name": 'John "Jack" Smith\nx' * 40}, COLUMNS, ("name",))
    assert len(odd[0]) < 2000
    assert "\n" not in odd[0]


async def test_a_query_for_each_row_once() -> None:
    built = DefaultQueryStringBuilder()
    queries = await built.build_queries(
        [JOHN, {"name": "Al Bo", "state": "TX"}, JOHN], COLUMNS, KEYS
    )
    assert len(queries) == 2
    assert queries == await built.build_queries(
        [JOHN, {"name": "Al Bo", "state": "TX"}], COLUMNS, KEYS
    )


def result(url: str, title: str = "", snippet: str = "", **more: Any) -> dict[str, Any]:
    return {"url": url, "title": title, "snippet": snippet, "query": "q", **more}


async def test_pages_that_name_the_row_come_first() -> None:
    found = [
        result("https://news.example/budget", "The budget of the year"),
        result("https://www.spokeo.com/John-Smith", "John Smith, California"),
        result("https://a24.asm.ca.gov/contact", "Assemblymember John Smith", "California"),
        result("https://other.example/john-smith-california"),
    ]
    urls = await DefaultCrawlDecisionMaker().select_urls_to_crawl(found, 3, row=JOHN)
    assert urls[0] == "https://a24.asm.ca.gov/contact"
    assert urls[1] == "https://other.example/john-smith-california"
    assert len(urls) == 3


def test_what_is_not_fetched() -> None:
    found = [
        result("https://x.example/a.jpg"),
        result("ftp://x.example/a"),
        result("not a url"),
        result("http://[broken"),
        result("https://www.facebook.com/john"),
        result("https://x.example/john"),
        result("http://www.x.example/john/"),
    ]
    assert chosen(found, 10, row=JOHN) == ["https://x.example/john"]


def test_two_of_a_domain_and_copies_once() -> None:
    text = "John Smith is a member of the assembly of California and lives in the town of Fresno."
    found = [result(f"https://{n}.x.org/{n}", "John Smith") for n in "abc"]
    found += [
        result("https://y.example/", "John", text),
        result("https://z.example/", "John", text),
    ]
    urls = chosen(found, 10, row=JOHN)
    assert len(urls) == 3
    assert "https://z.example/" not in urls
    assert chosen(found, 1, row=JOHN) == urls[:1]


def test_the_newer_first() -> None:
    found = [
        result("https://a.example/", "John Smith", published_date="2015-01-01"),
        result("https://b.example/", "John Smith", published_date="Mar 3, 2026", query="r"),
    ]
    assert chosen(found, 2, row=JOHN)[0] == "https://b.example/"
