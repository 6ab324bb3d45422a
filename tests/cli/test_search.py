"""`llm-common search`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llm_common.testing import CorpusDocument, Fault, ProviderServer
from tests import servers
from tests.cli.command import Command

QUERY = "shelter tax Kern"


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    text = "The shelter tax of Kern county pays for [beds]."
    return [
        CorpusDocument("Shelter tax [note]", "https://leg.kern.gov/note", text, "2026-01-01"),
        CorpusDocument("Shelter tax news", "https://news.example/tax", text),
    ]


@pytest.fixture
def cli(cli: Command, fake: ProviderServer) -> Command:
    cli.environment.update(fake.environment())
    return cli


async def test_the_second_search_comes_from_the_cache(cli: Command, fake: ProviderServer) -> None:
    first = await cli("search", QUERY, "--engine", "brave")
    assert first.code == 0, first.err
    for shown in ("Shelter tax [note]", "https://leg.kern.gov/note", "pays for [beds]", "2026-01"):
        assert shown in first.out
    assert "asked (brave), $0.005" in first.out
    again = await cli("search", QUERY, "--engine", "brave")
    assert "from the cache (brave), $0.00" in again.out
    assert len(fake.requests) == 1
    assert "$0.005" in (await cli("costs")).out


async def test_json_filters_and_a_fallback(cli: Command, fake: ProviderServer) -> None:
    fake.script(Fault.status(401), match="tavily")
    options = ("--domain", "kern.gov", "--domain", "a.gov", "--recency", "1y", "--count", "3")
    found = await cli("search", QUERY, "--engine", "tavily", "--engine", "exa", *options, "--json")
    assert found.code == 0, found.err
    assert (found.json["source"], found.json["cost_usd"]) == ("none", "0.007")
    (result,) = found.json["results"]
    assert (result["url"], result["engine"]) == ("https://leg.kern.gov/note", "exa")
    assert fake.requests[-1].body["includeDomains"] == ["kern.gov", "a.gov"]


async def test_an_answer_that_is_out_of_date_says_so(
    cli: Command, fake: ProviderServer, database_url: str
) -> None:
    await cli("search", QUERY)
    servers.execute(database_url, "UPDATE web_search_cache SET expires_at = now()")
    shown = await cli("search", QUERY)
    assert "out of date" in shown.out
    # The command ends when the refresh has.
    assert len(fake.requests) == 2
    assert "from the cache (zai)" in (await cli("search", QUERY)).out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--engine", "bing"), "no search engine 'bing'"),
        (("--recency", "2d"), "recency must be one of"),
        (("--count", "0"), "count must lie in 1 to 50"),
        (("--domain", "https://a.gov/"), "hosts such as leg.ca.gov"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    cli: Command, arguments: tuple[str, ...], complaint: str
) -> None:
    ended = await cli("search", QUERY, *arguments)
    assert ended.code == 2
    assert complaint in ended.complaint


async def test_without_a_key_the_variable_is_named(cli: Command, fake: ProviderServer) -> None:
    del cli.environment["ZAI_API_KEY"]
    assert "set ZAI_API_KEY" in (await cli("search", QUERY)).complaint
    assert (await cli("search", "nothing of the sort", "--engine", "searxng")).out.startswith(
        "nothing found"
    )
