"""Every engine keeps one contract; it is asked over HTTP, as the real one is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
)
from llm_common.search import Endpoint, Recency, SearchQuery, engine_named
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.web_search import WebSearchClient
from tests import servers

QUERY = "shelter tax Kern"
GARBAGE: list[Any] = [
    "text",
    None,
    7,
    [],
    {"title": "no address"},
    {"url": None, "link": None},
    {"url": 5, "link": {"a": 1}},
    {"url": "", "link": ""},
    {"url": "ftp://a.example", "link": "javascript:alert(1)"},
    {"url": "https://[bad", "link": "http://[bad"},
    {"url": "https://", "link": "https://"},
]
"""Entries that are no results."""


class Contract:
    """What every engine does."""

    engine: str
    url_key = "url"
    price: str
    count_key: str | None
    recency_key: str
    recency: ClassVar[dict[str, str]]
    """What the engine calls each recency."""

    def body(self, entries: Any) -> Any:
        """Return an answer of the engine with these entries."""
        raise NotImplementedError

    @pytest.fixture
    def client(self, costs: CostTracker) -> WebSearchClient:
        return WebSearchClient(engine=self.engine, cost_tracker=costs)

    def asked(self, fake: ProviderServer) -> dict[str, Any]:
        return fake.requests[-1].body

    async def test_results_are_of_one_shape(
        self, fake: ProviderServer, client: WebSearchClient, costs: CostTracker
    ) -> None:
        results = await client.search(QUERY)
        assert [r.rank for r in results] == [1, 2, 3]
        assert {r.url for r in results} >= {"https://leg.kern.gov/note"}
        first = next(r for r in results if r.url == "https://leg.kern.gov/note")
        assert first.title == "Shelter tax note"
        assert "pays for beds" in first.snippet
        assert first.published_date is not None
        assert first.engine == self.engine
        assert first.raw[self.url_key] == first.url
        assert [r.provider for r in fake.requests] == [self.engine]
        assert fake.requests[0].has_key == (self.engine != "searxng")
        assert "fake-key" not in repr(fake.requests[0])
        assert await costs.get_daily_cost() == fake.invoice.total_usd == Decimal(self.price)

    async def test_count(self, fake: ProviderServer, client: WebSearchClient) -> None:
        assert len(await client.search(QUERY, count=2)) == 2
        if self.count_key:
            assert int(self.asked(fake)[self.count_key]) == 2
        # The fake refuses a count that the engine refuses.
        assert len(await client.search(QUERY, count=50)) == 3

    async def test_no_more_than_was_asked_for(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        fake.script(Answer(json=self.body([self.entry("https://a.example")] * 9)))
        assert len(await client.search(QUERY, count=4)) == 4

    def entry(self, url: str, **more: Any) -> dict[str, Any]:
        return {"title": "t", self.url_key: url, **more}

    @pytest.mark.parametrize("age", ["1d", "1w", "1m", "1y"])
    async def test_recency(
        self, fake: ProviderServer, client: WebSearchClient, age: Recency
    ) -> None:
        found = await client.search(QUERY, recency=age)
        assert len(found) == {"1d": 0, "1w": 1, "1m": 2, "1y": 2}[age]
        assert self.asked(fake)[self.recency_key] == self.recency[age]

    async def test_an_engine_that_overlooks_the_recency_is_held_to_it(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        old = (datetime.now(UTC) - timedelta(days=40)).date().isoformat()
        dates = {"publish_date": old, "date": old, "published_date": old, "page_age": old}
        dated = self.entry("https://old.example", publishedDate=old, **dates)
        undated = self.entry("https://undated.example")
        fake.script(Answer(json=self.body([dated, undated])))
        (left,) = await client.search(QUERY, recency="1m")
        assert (left.url, left.rank) == ("https://undated.example", 1)

    async def test_domains(self, fake: ProviderServer, client: WebSearchClient) -> None:
        found = await client.search(QUERY, domains=["kern.gov"])
        assert [r.url for r in found] == ["https://leg.kern.gov/note"]
        both = await client.search(QUERY, domains=["kern.gov", "old.example"])
        assert {r.url for r in both} == {"https://leg.kern.gov/note", "https://old.example/tax"}

    async def test_results_of_other_domains_are_left_out(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        links = ["https://a.gov/1", "https://www.b.gov/2", "https://notb.gov/3", "http://[bad"]
        fake.script(Answer(json=self.body([self.entry(link) for link in links])))
        found = await client.search(QUERY, domains=["A.gov ", "b.gov"])
        assert [r.url for r in found] == links[:2]

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault.status(401), AuthenticationError),
            (Fault.status(402), QuotaExhaustedError),
            (Fault.status(403), AuthenticationError),
            (Fault.status(400), BadRequestError),
            (Fault.status(404), ProviderUnavailableError),
            (Fault.status(302), BadRequestError),
            (Fault.status(429), RateLimitedError),
            (Fault.rate_limit(30), RateLimitedError),
            (Fault.status(500), ProviderUnavailableError),
            (Fault.status(503), ProviderUnavailableError),
            (Fault.html(), BrokenResponseError),
            (Fault.malformed_json(), BrokenResponseError),
            (Fault.disconnect(), BrokenResponseError),
            (Fault.disconnect(1), BrokenResponseError),
            (Answer(json={}), BrokenResponseError),
            (Answer(json={"other": []}), BrokenResponseError),
            (Answer(json=[1, 2]), BrokenResponseError),
            (Answer(json="text"), BrokenResponseError),
        ],
        ids=str,
    )
    async def test_failures_by_type(
        self, fake: ProviderServer, fault: Any, kind: type[CallError]
    ) -> None:
        fake.script(fault)
        with pytest.raises(kind) as caught:
            await self.ask(fake.base_url(self.engine))
        assert type(caught.value) is kind
        assert caught.value.provider == self.engine
        assert "fake" not in str(caught.value)
        retry_after_s = fault.retry_after_s if isinstance(fault, Fault) else None
        assert caught.value.retry_after_s == retry_after_s

    @pytest.mark.parametrize("fault", [Fault.status(401), Fault.rate_limit(30), Fault.html()])
    async def test_of_a_failure_nothing_is_kept(
        self, fake: ProviderServer, client: WebSearchClient, fault: Fault, database_url: str
    ) -> None:
        fake.script(*[fault] * 3)
        with pytest.raises(CallError):
            await client.search(QUERY)
        kept = servers.fetch(database_url, "SELECT results, lease_owner FROM web_search_cache")
        assert kept == [(None, None)]

    @pytest.mark.parametrize("odd", ["none", None, 5, {"results": None}, {"a": []}], ids=str)
    async def test_results_that_are_no_list(self, fake: ProviderServer, odd: Any) -> None:
        fake.script(Answer(json=self.body(odd)))
        with pytest.raises(BrokenResponseError, match="answered without"):
            await self.ask(fake.base_url(self.engine))

    async def test_an_empty_body(self, fake: ProviderServer) -> None:
        async with servers.raw_http(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as url:
            with pytest.raises(BrokenResponseError, match="not JSON"):
                await self.ask(url)

    async def test_no_answer_in_time(self, fake: ProviderServer) -> None:
        await self.ask(fake.base_url(self.engine))  # what is connected can't fail to connect
        fake.script(Fault.timeout(60))
        with pytest.raises(ProviderTimeoutError, match="no answer in time"):
            await self.ask(fake.base_url(self.engine), timeout_s=0.2)

    async def test_an_answer_that_drips_is_given_up_as_a_whole(self, fake: ProviderServer) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
        async with servers.raw_http(head, drip=b" ") as url:
            with pytest.raises(ProviderTimeoutError):
                await self.ask(url, timeout_s=1.0)

    async def ask(self, url: str, timeout_s: float = 60.0) -> Any:
        """Ask the engine itself, without the client's retries."""
        query, endpoint = SearchQuery(QUERY), Endpoint(url, "K", "k")
        return await engine_named(self.engine).search(query, endpoint, timeout_s=timeout_s)

    async def test_a_web_page_names_the_variable_to_check(self, fake: ProviderServer) -> None:
        fake.script(Fault.html())
        with pytest.raises(BrokenResponseError, match=f"HTML: check {self.engine.upper()}_BASE"):
            await self.ask(fake.base_url(self.engine))

    @pytest.mark.parametrize("fault", [Fault.rate_limit(0.01), Fault.status(500)], ids=str)
    async def test_what_may_pass_is_tried_again(
        self, fake: ProviderServer, client: WebSearchClient, fault: Fault
    ) -> None:
        fake.script(fault)
        assert len(await client.search(QUERY)) == 3
        assert len(fake.requests) == 2

    async def test_garbage_among_results_is_left_out(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        odd = dict.fromkeys(
            ("publish_date", "date", "published_date", "page_age", "publishedDate"), 2026
        )
        texts = ("title", "snippet", "content", "description", "highlights", "score")
        odd |= {name: {"a": ["b"]} for name in texts}
        odd |= {"extra_snippets": [None, 5], "text": [1]}
        fake.script(Answer(json=self.body([*GARBAGE, {**odd, self.url_key: "https://a.example"}])))
        (result,) = await client.search(QUERY)
        assert (result.title, result.published_date) == ("https://a.example", "2026")
        assert (result.snippet, result.score, result.rank) == ("", None, 1)

    async def test_nothing_found_is_an_answer(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        fake.script(Fault.empty())
        assert await client.search(QUERY) == []
        assert await client.search(QUERY) == []
        assert len(fake.requests) == 1

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


class WithKey(Contract):
    """What every engine does that takes a key."""

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


class TestZai(WithKey):
    engine, url_key, count_key, price = "zai", "link", "count", "0.01"
    recency_key = "search_recency_filter"
    recency: ClassVar = {"1d": "oneDay", "1w": "oneWeek", "1m": "oneMonth", "1y": "oneYear"}

    def body(self, entries: Any) -> Any:
        return {"search_result": entries}

    async def test_longer_passages_are_content(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        long = {"link": "https://a.example", "content": "word " * 100}
        fake.script(Answer(json=self.body([long])))
        (result,) = await client.search(QUERY)
        assert result.content == "word " * 100
        assert len(result.snippet) == 300

    async def test_an_account_in_arrears(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        fake.script(Fault.status(429, "1113"))
        with pytest.raises(QuotaExhaustedError):
            await client.search(QUERY)
        assert len(fake.requests) == 1


class TestSerper(WithKey):
    engine, url_key, count_key, price = "serper", "link", "num", "0.001"
    recency_key = "tbs"
    recency: ClassVar = {"1d": "qdr:d", "1w": "qdr:w", "1m": "qdr:m", "1y": "qdr:y"}

    def body(self, entries: Any) -> Any:
        return {"organic": entries}

    async def test_domains_are_part_of_the_query(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        await client.search(QUERY, domains=["a.gov", "b.gov"])
        assert self.asked(fake)["q"] == f"{QUERY} (site:a.gov OR site:b.gov)"

    async def test_spent_credits_are_no_bad_request(self, fake: ProviderServer) -> None:
        said = b'{"message":"Not enough credits","statusCode":400}'
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n" % len(said)
        async with servers.raw_http(head + said) as url:
            with pytest.raises(QuotaExhaustedError):
                await self.ask(url)


class TestTavily(WithKey):
    engine, count_key, price = "tavily", "max_results", "0.008"
    recency_key = "time_range"
    recency: ClassVar = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}

    def body(self, entries: Any) -> Any:
        return {"results": entries}

    async def test_its_own_filters_and_score(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        (found,) = await client.search(QUERY, domains=["kern.gov"])
        assert self.asked(fake)["include_domains"] == ["kern.gov"]
        assert self.asked(fake)["search_depth"] == "basic"
        assert self.asked(fake)["query"] == QUERY
        assert found.score == 0.99
        assert fake.requests[-1].headers["authorization"] == "Bearer fake-key-of-tavily"

    @pytest.mark.parametrize("status", [432, 433])
    async def test_a_spent_plan(
        self, fake: ProviderServer, client: WebSearchClient, status: int
    ) -> None:
        fake.script(Fault.status(status))
        with pytest.raises(QuotaExhaustedError):
            await client.search(QUERY)
        assert len(fake.requests) == 1


class TestBrave(WithKey):
    engine, count_key, price = "brave", "count", "0.005"
    recency_key = "freshness"
    recency: ClassVar = {"1d": "pd", "1w": "pw", "1m": "pm", "1y": "py"}

    def body(self, entries: Any) -> Any:
        return {"type": "search", "web": {"results": entries}}

    async def test_more_passages_are_content(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        more = self.entry("https://a.example", extra_snippets=["one", "two"])
        fake.script(Answer(json=self.body([more])))
        (result,) = await client.search(QUERY)
        assert result.content == "one\ntwo"
        assert fake.requests[-1].headers["x-subscription-token"] == "fake-key-of-brave"

    async def test_a_refused_key_is_a_422(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        fake.script(Fault.status(422, "SUBSCRIPTION_TOKEN_INVALID"))
        with pytest.raises(AuthenticationError):
            await client.search(QUERY)
        fake.script(Fault.status(422))
        with pytest.raises(BadRequestError):
            await client.search("another")


class TestExa(WithKey):
    engine, count_key, price = "exa", "numResults", "0.007"
    recency_key = "startPublishedDate"

    @property
    def recency(self) -> dict[str, str]:  # type: ignore[override]
        """By the day on which the test runs, not the one on which it was collected."""
        return {
            age: f"{(datetime.now(UTC) - timedelta(days=days)).date().isoformat()}T00:00:00.000Z"
            for age, days in (("1d", 1), ("1w", 7), ("1m", 31), ("1y", 366))
        }

    def body(self, entries: Any) -> Any:
        return {"results": entries}

    async def test_it_costs_what_it_says(
        self, fake: ProviderServer, client: WebSearchClient, costs: CostTracker
    ) -> None:
        fake.script(Answer(json={"results": [], "costDollars": {"total": 0.0123}}))
        assert (await client.answer(QUERY)).cost_usd == Decimal("0.0123")
        assert await costs.get_daily_cost() == Decimal("0.0123")

    @pytest.mark.parametrize("odd", [None, {}, {"total": "x"}, {"total": -1}, {"total": True}, 5])
    async def test_a_cost_that_is_none_is_the_price(
        self, fake: ProviderServer, client: WebSearchClient, odd: Any
    ) -> None:
        fake.script(Answer(json={"results": [], "costDollars": odd}))
        assert (await client.answer(QUERY)).cost_usd == Decimal("0.007")

    async def test_passages_and_domains(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        two = self.entry("https://a.gov", highlights=["one", "two"], score=0.25)
        fake.script(Answer(json=self.body([two])))
        (result,) = await client.search(QUERY, domains=["a.gov"])
        assert (result.snippet, result.content, result.score) == ("one", "one\ntwo", 0.25)
        assert self.asked(fake)["includeDomains"] == ["a.gov"]


class TestSearxng(Contract):
    engine, count_key, price = "searxng", None, "0"
    recency_key = "time_range"
    recency: ClassVar = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}

    def body(self, entries: Any) -> Any:
        return {"results": entries}

    async def test_it_needs_an_address_and_no_key(
        self, fake: ProviderServer, client: WebSearchClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SEARXNG_API_KEY", "of-something-else")
        assert await client.search(QUERY)
        assert not fake.requests[-1].has_key
        monkeypatch.delenv("SEARXNG_BASE_URL")
        with pytest.raises(ConfigurationError, match="no endpoint: set SEARXNG_BASE_URL"):
            await client.search("another")

    async def test_it_is_free_and_recorded(
        self, fake: ProviderServer, client: WebSearchClient, ledger: Any
    ) -> None:
        answer = await client.answer(QUERY)
        assert answer.cost_usd == Decimal(0)
        (row,) = await ledger()
        assert (row["cost_usd"], row["status"], row["key_alias"]) == (0, "ok", None)

    async def test_engines_behind_it_that_fail_are_not_nothing_found(
        self, fake: ProviderServer, client: WebSearchClient
    ) -> None:
        silent = {"results": [], "unresponsive_engines": [["google", "CAPTCHA"]]}
        fake.script(*[Answer(json=silent)] * 3)
        with pytest.raises(ProviderUnavailableError, match="none of the engines behind searxng"):
            await client.search(QUERY)


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
    with pytest.raises(ConfigurationError, match="no search engine 'bing': use brave, exa, off"):
        WebSearchClient(engine="bing")
    with pytest.raises(ConfigurationError, match="no search engine 'bing'"):
        WebSearchClient(engine=["zai", "bing"])
    with pytest.raises(InvalidInputError, match="at least one"):
        WebSearchClient(engine=[])
    with pytest.raises(InvalidInputError, match="every search engine once, not zai, zai"):
        WebSearchClient(engine=["zai", "zai"])
    with pytest.raises(InvalidInputError, match="set <ENGINE>_API_KEY"):
        WebSearchClient("a-key", engine=["zai", "serper"])
    with pytest.raises(InvalidInputError, match="seconds, 0 or more"):
        WebSearchClient(memory_cache_ttl=-1)
    with pytest.raises(InvalidInputError, match="seconds, 0 or more"):
        WebSearchClient(db_cache_ttl=-1)


async def test_a_rate_limit_that_stays_is_the_callers(
    fake: ProviderServer, costs: CostTracker
) -> None:
    fake.script(*[Fault.rate_limit(0.01)] * 3)
    with pytest.raises(RateLimitedError) as caught:
        await WebSearchClient(cost_tracker=costs).search(QUERY)
    assert (caught.value.status, len(fake.requests)) == (429, 3)
