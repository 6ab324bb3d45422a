"""The truth is known, the model errs: what ends as verified is right, and nearly all is found."""

from __future__ import annotations

import pytest

from llm_common import CostTracker, EnrichmentPipeline, LLMClient, WebSearchClient, providers
from llm_common.enrichment import Components, PipelineConfig
from llm_common.enrichment.fetching import PageCrawler
from llm_common.search import http as search_http
from tests.enrichment.world import Model, Score, make_world, score, serve

CONFIG = PipelineConfig(
    model="gpt-4o-mini", batch_size=10, max_parallel_batches=6, retry_delay_seconds=0.05
)


async def enriched(
    database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int, count: int | None
) -> Score:
    world = make_world(seed, count=count)
    async with serve(world, Model(seed), slow_s=0.2) as served:
        for name, value in served.providers.environment().items():
            monkeypatch.setenv(name, value)
        costs = CostTracker(database_url, project="legislators")
        fetcher = served.fetcher()
        crawler = PageCrawler(fetcher, per_host_delay_s=0)
        pipeline = EnrichmentPipeline(
            LLMClient("openai", cost_tracker=costs),
            WebSearchClient(engine="serper", cost_tracker=costs),
            costs,
            components=Components(crawler=crawler),
        )
        try:
            result = await pipeline.enrich(world.rows(), world.request(), CONFIG)
            far = await pipeline.progress(result.job_id)
        finally:
            await pipeline.aclose()
            await crawler.aclose()
            await fetcher.aclose()
            await costs.aclose()
            await providers.aclose()
            await search_http.close()
        assert far.outcomes == {"done": len(world.people)}
        assert far.cost_usd == served.providers.invoice.total_usd
        assert served.closed_and_asked == []
        # The model was asked, and did err.
        assert set(served.model.counts) >= {"invented", "dropped", "altered"}
        return score(world, result.enriched_rows, served.model)


def check(found: Score) -> None:
    print(f"\n{found.report()}")
    assert found.wrong == []
    assert found.right_share >= 0.98
    assert found.empty_share == 1
    assert found.usd_per_right_cell is not None


@pytest.mark.timeout(900)
async def test_part_of_the_table(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(await enriched(database_url, monkeypatch, 1, 100))


@pytest.mark.scale
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_whole_table(
    database_url: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    check(await enriched(database_url, monkeypatch, seed, None))
