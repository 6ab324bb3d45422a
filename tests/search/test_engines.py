"""Every engine keeps one contract; it is asked over HTTP, as the real one is."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ConfigurationError,
    InvalidInputError,
    MissingKeyError,
    ProviderUnavailableError,
    RateLimitedError,
)
from llm_common.search import Recency
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.web_search import WebSearchClient

QUERY = "shelter tax Kern"


class Contract:
    """What every engine does."""

    engine: str
    list_key: str
    recency: ClassVar[dict[str, str]]
    """What the engine calls each recency."""

    @pytest.fixture
    def client(self, costs: CostTracker) -> WebSearchClient:
        return WebSearchClient(engine=self.engine, cost_tracker=costs)

    def asked(self, fake: ProviderServer) -> dict[str, Any]:
        return fake.requests[-1].body

    async def test_results_are_of_one_shape(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        results = await client.search(QUERY)
        assert [r.rank for r in results] == [1, 2, 3]
        assert {r.url for r in results} >= {"https://leg.kern.gov/note"}
        first = next(r for r in results if r.url == "https://leg.kern.gov/note")
        assert first.title == "Shelter tax note"
        assert "pays for beds" in first.snippet
        assert first.published_date is not None
        assert first.engine == self.engine
        assert first.raw["link"] == first.url
        assert [r.provider for r in fake.requests] == [self.engine]
        assert fake.requests[0].has_key

    async def test_count(self, fake: ProviderServer, client: WebSearchClient) -> None:
        assert len(await client.search(QUERY, count=2)) == 2
        assert self.asked(fake)[self.count_key] == 2

    async def test_no_more_than_was_asked_for(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        link = {"title": "t", "link": "https://a.example"}
        fake.script(Answer(json={self.list_key: [link] * 9}))
        assert len(await client.search(QUERY, count=4)) == 4

    @pytest.mark.parametrize("age", ["1d", "1w", "1m", "1y"])
    async def test_recency(
        self, fake: ProviderServer, client: WebSearchClient, age: Recency
    ) -> None:
        found = await client.search(QUERY, recency=age)
        assert len(found) == {"1d": 0, "1w": 1, "1m": 2, "1y": 2}[age]
        assert self.asked(fake)[self.recency_key] == self.recency[age]

    async def test_domains(self, fake: ProviderServer, client: WebSearchClient) -> None:
        found = await client.search(QUERY, domains=["kern.gov"])
        assert [r.url for r in found] == ["https://leg.kern.gov/note"]

    async def test_results_of_other_domains_are_left_out(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        links = ["https://a.gov/1", "https://www.b.gov/2", "https://notb.gov/3", "http://[bad"]
        answer = {self.list_key: [{"title": "t", "link": link} for link in links]}
        fake.script(Answer(json=answer))
        found = await client.search(QUERY, domains=["A.gov ", "b.gov"])
        assert [r.url for r in found] == links[:2]

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault.status(401), AuthenticationError),
            (Fault.status(400), BadRequestError),
            (Fault.status(302), BadRequestError),
            (Fault.html(), BrokenResponseError),
            (Fault.malformed_json(), BrokenResponseError),
            (Answer(json={"other": []}), BrokenResponseError),
            (Answer(json=[1, 2]), BrokenResponseError),
            (Answer(json={"search_result": "none", "organic": None}), BrokenResponseError),
        ],
        ids=str,
    )
    async def test_failures_by_type(
        self,
        fake: ProviderServer,
        client: WebSearchClient,
        fault: Any,
        kind: type[CallError],
    ) -> None:
        fake.script(*[fault] * 3)
        with pytest.raises(kind) as caught:
            await client.search(QUERY)
        assert type(caught.value) is kind
        assert caught.value.provider == self.engine
        assert "fake" not in str(caught.value)

    async def test_a_web_page_names_the_variable_to_check(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        fake.script(*[Fault.html()] * 3)
        with pytest.raises(BrokenResponseError, match=f"HTML: check {self.engine.upper()}_BASE"):
            await client.search(QUERY)

    @pytest.mark.parametrize("fault", [Fault.rate_limit(0.01), Fault.status(500)], ids=str)
    async def test_what_may_pass_is_tried_again(
        self, fake: ProviderServer, client: WebSearchClient, fault: Fault
    ) -> None:
        fake.script(fault)
        assert len(await client.search(QUERY)) == 3
        assert len(fake.requests) == 2

    async def test_odd_values_in_results_do_no_harm(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        odd = {"link": "https://a.example", "title": None, "publish_date": 2026, "date": 2026}
        fake.script(Answer(json={self.list_key: [odd, "text", {"title": "no link"}, None]}))
        (result,) = await client.search(QUERY)
        assert (result.title, result.published_date) == ("https://a.example", "2026")

    async def test_no_key(
        self, fake: ProviderServer, client: WebSearchClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(f"{self.engine.upper()}_API_KEY")
        with pytest.raises(MissingKeyError, match=f"set {self.engine.upper()}_API_KEY"):
            await client.search(QUERY)
        assert fake.requests == []

    async def test_a_key_as_files_hold_it(self, fake: ProviderServer, costs: CostTracker) -> None:
        client = WebSearchClient("a-key\n", engine=self.engine, cost_tracker=costs)
        assert await client.search(QUERY)

    async def test_an_address_that_is_none(self, fake: ProviderServer, costs: CostTracker) -> None:
        client = WebSearchClient(engine=self.engine, base_url="localhost:1", cost_tracker=costs)
        with pytest.raises(ConfigurationError, match="must begin with https://"):
            await client.search(QUERY)
        assert await costs.get_daily_cost() == 0

    async def test_nobody_there(self, fake: ProviderServer, costs: CostTracker) -> None:
        url = "http://127.0.0.1:1"
        client = WebSearchClient(engine=self.engine, base_url=url, cost_tracker=costs)
        with pytest.raises(ProviderUnavailableError, match="can't be reached"):
            await client.search(QUERY)
        assert await costs.get_daily_cost() == 0


class TestZai(Contract):
    engine, list_key, count_key = "zai", "search_result", "count"
    recency_key = "search_recency_filter"
    recency: ClassVar = {"1d": "oneDay", "1w": "oneWeek", "1m": "oneMonth", "1y": "oneYear"}

    async def test_longer_passages_are_content(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        long = {"link": "https://a.example", "content": "word " * 100}
        fake.script(Answer(json={"search_result": [long]}))
        (result,) = await client.search(QUERY)
        assert result.content == "word " * 100
        assert len(result.snippet) == 300


class TestSerper(Contract):
    engine, list_key, count_key = "serper", "organic", "num"
    recency_key = "tbs"
    recency: ClassVar = {"1d": "qdr:d", "1w": "qdr:w", "1m": "qdr:m", "1y": "qdr:y"}

    async def test_domains_are_part_of_the_query(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        await client.search(QUERY, domains=["a.gov", "b.gov"])
        assert self.asked(fake)["q"] == f"{QUERY} (site:a.gov OR site:b.gov)"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"query": " \n "}, "query is empty"),
        ({"count": 0}, "count must lie in 1 to 50, not 0"),
        ({"count": 51}, "count must lie in 1 to 50, not 51"),
        ({"recency": "2d"}, "recency must be one of 1d, 1w, 1m, 1y, not '2d'"),
        ({"domains": "leg.ca.gov"}, "a list of hosts, not one text"),
        ({"domains": ["https://leg.ca.gov/"]}, "hosts such as leg.ca.gov"),
    ],
)
async def test_bad_arguments_send_nothing(
    fake: ProviderServer, costs: CostTracker, changes: dict[str, Any], complaint: str
) -> None:
    client = WebSearchClient(cost_tracker=costs)
    with pytest.raises(InvalidInputError, match=complaint):
        await client.search(**{"query": QUERY, **changes})
    assert fake.requests == []


def test_bad_clients() -> None:
    with pytest.raises(
        ConfigurationError, match="no search engine 'bing': use offline, serper, zai"
    ):
        WebSearchClient(engine="bing")
    with pytest.raises(InvalidInputError, match="seconds, 0 or more"):
        WebSearchClient(memory_cache_ttl=-1)


async def test_a_rate_limit_that_stays_is_the_callers(
    fake: ProviderServer, costs: CostTracker
) -> None:
    fake.script(*[Fault.rate_limit(0.01)] * 3)
    with pytest.raises(RateLimitedError) as caught:
        await WebSearchClient(cost_tracker=costs).search(QUERY)
    assert (caught.value.status, len(fake.requests)) == (429, 3)
