"""Searches over a corpus, in the formats of the engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_common.errors import InvalidInputError
from llm_common.testing import CorpusDocument, Fault, Hit, ProviderServer, Query
from llm_common.testing.corpus import load_corpus, search
from tests.testing.conftest import CORPUS


async def post(server: ProviderServer, engine: str, path: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        url = server.base_url(engine) + path
        return await client.post(url, json=body, headers={"x-api-key": "k"})


async def test_zai_finds_a_passage_verbatim(server):
    reply = await post(server, "zai", "/web_search", search_query="rent relief Ohio", count=5)
    [found] = reply.json()["search_result"]
    assert set(found) == {"title", "link", "content", "media", "icon", "refer", "publish_date"}
    assert found["link"] == "https://www.ohio.gov/rent-relief"
    assert found["content"] in CORPUS[0].text
    assert found["publish_date"] == "2024-02-01"
    assert server.invoice.total_usd == Decimal("0.01")


async def test_serper_finds_and_is_charged_for_finding_nothing(server):
    found = await post(server, "serper", "/search", q="covered bridges Vermont")
    nothing = await post(server, "serper", "/search", q="quantum chromodynamics")
    [hit] = found.json()["organic"]
    assert set(hit) == {"title", "link", "snippet", "position"}
    assert nothing.json()["organic"] == []
    assert server.invoice.total_usd == Decimal("0.002")


async def test_a_search_engine_that_answers_with_a_page(server):
    server.script(Fault.html(), match="serper")
    reply = await post(server, "serper", "/search", q="rent")
    assert reply.headers["content-type"] == "text/html"
    with pytest.raises(json.JSONDecodeError):
        reply.json()
    assert server.invoice.lines == []


@pytest.mark.parametrize("engine", ["zai", "serper"])
async def test_search_faults(server, engine):
    path, name = ("/web_search", "search_query") if engine == "zai" else ("/search", "q")
    server.script(Fault.rate_limit(2), Fault.empty())
    limited = await post(server, engine, path, **{name: "rent relief"})
    empty = await post(server, engine, path, **{name: "rent relief"})
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    assert empty.json()["search_result" if engine == "zai" else "organic"] == []
    assert len(server.invoice.lines) == 1


async def get(server: ProviderServer, engine: str, path: str, **params: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        url = server.base_url(engine) + path
        headers = {"x-subscription-token": "k"} if engine == "brave" else {}
        return await client.get(url, params=params, headers=headers)


async def test_tavily_s_answer(server):
    reply = await post(server, "tavily", "/search", query="rent relief Ohio", max_results=5)
    [found] = reply.json()["results"]
    keys = {"title", "url", "content", "score", "raw_content", "published_date"}
    assert set(found) == keys
    assert found["content"] in CORPUS[0].text
    far = await post(
        server, "tavily", "/search", query="rent relief Ohio", include_domains=["a.gov"]
    )
    assert far.json()["results"] == []
    assert (await post(server, "tavily", "/search", query="x", max_results=21)).status_code == 400


async def test_brave_s_answer_has_no_part_web_where_it_found_nothing(server):
    reply = await get(server, "brave", "/web/search", q="rent relief Ohio", count=5)
    [found] = reply.json()["web"]["results"]
    assert found["description"] in CORPUS[0].text
    assert found["page_age"] == "2024-02-01T00:00:00"
    nothing = await get(server, "brave", "/web/search", q="quantum chromodynamics")
    assert nothing.json()["type"] == "search"
    assert "web" not in nothing.json()
    assert server.invoice.total_usd == Decimal("0.010")
    assert (await get(server, "brave", "/web/search", q="x", count=21)).status_code == 400
    assert "'x-subscription-token': '***'" in repr(server.requests[0])


async def test_exa_s_answer_says_what_it_costs(server):
    reply = await post(server, "exa", "/search", query="rent relief Ohio", numResults=5)
    [found] = reply.json()["results"]
    assert found["highlights"][0] in CORPUS[0].text
    assert reply.json()["costDollars"] == {"total": 0.007}
    assert server.invoice.total_usd == Decimal("0.007")
    since = {"startPublishedDate": "2025-01-01T00:00:00.000Z"}
    late = await post(server, "exa", "/search", query="rent relief Ohio", **since)
    assert late.json()["results"] == []


async def test_searxng_wants_no_key_and_writes_json_only(server):
    reply = await get(server, "searxng", "/search", q="rent relief Ohio", format="json")
    [found] = reply.json()["results"]
    assert found["content"] in CORPUS[0].text
    assert (await get(server, "searxng", "/search", q="rent")).status_code == 400
    assert [line.amount for line in server.invoice.lines] == [Decimal(0)]
    assert "SEARXNG_API_KEY" not in server.environment()
    assert "SEARXNG_BASE_URL" in server.environment()


@pytest.mark.parametrize("engine", ["tavily", "brave", "exa"])
async def test_without_a_key_there_is_no_answer(server, engine):
    path = server.base_url(engine) + ("/web/search" if engine == "brave" else "/search")
    async with httpx.AsyncClient(timeout=60) as client:
        reply = await (client.get(path) if engine == "brave" else client.post(path, json={}))
    assert reply.status_code == 401
    assert "fake" in reply.text


async def test_several_sites_are_either_of_them(server):
    both = "relief bridges rent vermont (site:ohio.gov OR site:bridges.example.org)"
    reply = await post(server, "serper", "/search", q=both)
    assert len(reply.json()["organic"]) == 2


def test_words_in_common_decide_the_order():
    near = CorpusDocument("Rent", "https://a.example", "Rent relief for tenants in every county.")
    far = CorpusDocument("Cars", "https://b.example", "Relief for drivers in some other county.")
    found = search([far, near], Query("rent relief tenants"))
    assert [hit.url for hit in found] == ["https://a.example", "https://b.example"]


def test_domain_site_and_date_narrow_the_search():
    query = "bridges rent relief vermont ohio"
    assert [h.title for h in search(CORPUS, Query(query, domain="ohio.gov"))] == [CORPUS[0].title]
    site = Query(f"{query} site:bridges.example.org")
    assert [h.title for h in search(CORPUS, site)] == [CORPUS[1].title]
    today = datetime.now(UTC).date().isoformat()
    assert [h.title for h in search(CORPUS, Query(query, since=today))] == [CORPUS[1].title]


def test_an_empty_corpus_or_query_finds_nothing():
    assert search([], Query("rent")) == []
    assert search(CORPUS, Query("of the")) == []


def test_a_folder_becomes_a_corpus(tmp_path):
    (tmp_path / "a.md").write_text("# Rent relief\n\nIt pays.", encoding="utf-8")
    listed = [{"title": "T", "url": "https://t.example", "text": "x", "published": "2024-01-01"}]
    (tmp_path / "b.json").write_text(json.dumps(listed), encoding="utf-8")
    (tmp_path / "ignored.bin").write_bytes(b"\0")
    first, second = load_corpus(tmp_path)
    assert (first.title, first.url) == ("Rent relief", "https://example.org/a.md")
    assert second == CorpusDocument("T", "https://t.example", "x", "2024-01-01")


def test_a_document_without_an_address_is_named(tmp_path):
    (tmp_path / "b.json").write_text('{"title": "T", "text": "x"}', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"b\.json has a document without 'url'"):
        load_corpus(tmp_path)


async def test_an_engine_of_the_callers_answers_in_an_engines_format():
    def find(query: Query) -> list[Hit]:
        return [Hit(f"On {query.text}", "https://one.example", "Its words.", None)]

    async with ProviderServer(find) as server:
        reply = await post(server, "serper", "/search", q="rent")
        server.script(Fault.status(500))
        assert (await post(server, "serper", "/search", q="rent")).status_code == 500
    [found] = reply.json()["organic"]
    assert (found["title"], found["snippet"]) == ("On rent", "Its words.")
