"""Searches over a corpus, in the formats of two engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_common.errors import InvalidInputError
from llm_common.testing import CorpusDocument, Fault, ProviderServer
from llm_common.testing.corpus import Query, load_corpus, search
from tests.testing.conftest import CORPUS


async def post(server: ProviderServer, engine: str, path: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
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
