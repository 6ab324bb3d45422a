"""The whole of an enrichment on a small world: rows, values and money are all accounted for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_common import CostTracker, EnrichmentPipeline, providers
from llm_common.enrichment import (
    CrawlConfig,
    EnrichmentRequest,
    EnrichmentResult,
    FileSystemStateStore,
    JobStatus,
    PipelineConfig,
    PostgresStateStore,
    RowStatus,
)
from llm_common.enrichment.interfaces import LLMEnricher, SearchService, WebCrawler
from llm_common.enrichment.rows import snippet
from llm_common.errors import InvalidInputError, JobStateError
from llm_common.review import decide, reviews
from llm_common.runs.workers import enqueue
from llm_common.runs.workers import serve as serve_jobs
from llm_common.search import http as search_http
from tests.enrichment.world import NEVER, Model, Served, World, make_world, score, serve
from tests.enrichment.world.pipelines import made
from tests.servers import fetch

PROJECT = "legislators"
COUNT = 8
CONFIG = PipelineConfig(model="gpt-4o-mini", retry_delay_seconds=0.01)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(count=COUNT)


@pytest.fixture
async def served(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    async with serve(world, Model(world.seed, NEVER), slow_s=0) as running:
        for name, value in running.providers.environment().items():
            monkeypatch.setenv(name, value)
        yield running
        await providers.aclose()
        await search_http.close()


@pytest.fixture
async def costs(database_url: str) -> AsyncIterator[CostTracker]:
    tracker = CostTracker(database_url, project=PROJECT)
    yield tracker
    await tracker.aclose()


@pytest.fixture
async def pipeline(served: Served, costs: CostTracker) -> AsyncIterator[EnrichmentPipeline]:
    async with made(served, costs) as running:
        yield running


def calls(served: Served) -> int:
    return len(served.providers.requests)


async def test_a_table_is_enriched_and_the_numbers_add_up(
    pipeline: EnrichmentPipeline, served: Served, world: World, database_url: str
) -> None:
    result = await pipeline.enrich(world.rows(), world.request(), CONFIG)
    assert (result.status, result.total_rows, result.successful_rows) == ("completed", COUNT, COUNT)
    found = score(world, result.enriched_rows, served.model)
    assert found.wrong == []
    assert found.right_share >= 0.9
    for row in result.enriched_rows:
        assert row.status is RowStatus.COMPLETED
        assert set(row.cells) == {c.name for c in world.request().columns_to_enrich}
        for cell in row.cells.values():
            assert cell.is_settled == (cell.value is not None and bool(cell.quote and cell.url))
            assert cell.is_settled or cell.reason
        assert row.metadata.cost_usd == sum(
            (cell.cost_usd or Decimal(0) for cell in row.cells.values()), Decimal(0)
        )
    far = await pipeline.progress(result.job_id)
    rows = sum((row.metadata.cost_usd or Decimal(0) for row in result.enriched_rows), Decimal(0))
    ledger = fetch(database_url, "SELECT sum(cost_usd) FROM cost_tracking")
    assert rows == far.cost_usd == ledger[0][0] == served.providers.invoice.total_usd
    assert served.closed_and_asked == []


async def test_doing_it_again_costs_nothing(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    first = await pipeline.enrich(world.rows(), world.request(), CONFIG)
    before = calls(served)
    again = await pipeline.enrich(world.rows(), world.request(), CONFIG)
    assert calls(served) == before
    assert (await pipeline.progress(again.job_id)).cost_usd == 0
    assert [row.enriched_columns for row in again.enriched_rows] == [
        row.enriched_columns for row in first.enriched_rows
    ]
    assert {row.metadata.cost_usd for row in again.enriched_rows} == {Decimal(0)}
    # One row has changed: only that one is paid for.
    rows = world.rows()
    changed = [*rows[:-1], {**rows[-1], "name": "Nobody Whatsoever"}]
    third = await pipeline.enrich(changed, world.request(), CONFIG)
    assert [row.metadata.cost_usd == 0 for row in third.enriched_rows] == [True] * (COUNT - 1) + [
        False
    ]


async def test_a_pilot_is_part_of_the_whole(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    pilot = await pipeline.pilot(world.rows(), world.request(), CONFIG, count=2)
    assert pilot.total_rows == 2
    whole = await pipeline.enrich(world.rows(), world.request(), CONFIG)
    costs = [row.metadata.cost_usd for row in whole.enriched_rows]
    assert costs[:2] == [0, 0]
    assert all(cost for cost in costs[2:])


async def test_an_estimate_is_free(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    rows = [*world.rows(), world.rows()[0], {"name": "", "state": "CA"}]
    estimate = pipeline.estimate(rows, world.request(), CONFIG)
    assert (estimate.rows, estimate.searches) == (COUNT, COUNT)
    assert estimate.skipped == ((9, "same keys as row 1"), (10, "key column name is empty"))
    assert estimate.likely_usd
    assert estimate.most_usd == 3 * estimate.likely_usd
    assert calls(served) == 0
    result = await pipeline.enrich(world.rows(), world.request(), CONFIG)
    spent = (await pipeline.progress(result.job_id)).cost_usd
    assert spent < estimate.most_usd


async def test_rows_that_cannot_be_enriched_are_kept(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    rows = [world.rows()[0], {"name": None, "state": "CA"}, world.rows()[0]]
    result = await pipeline.enrich(rows, world.request(), CONFIG)
    assert [row.original_data for row in result.enriched_rows] == rows
    assert [(row.status.value, row.error) for row in result.enriched_rows] == [
        ("completed", None),
        ("skipped", "empty_key: key column name is empty"),
        ("skipped", "duplicate_key: same keys as row 1"),
    ]
    assert (result.successful_rows, result.skipped_rows) == (1, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "the table has no rows"), ([{"nam": "A", "state": "CA"}], "name")],
)
async def test_a_table_that_will_not_do(
    pipeline: EnrichmentPipeline, world: World, rows: Sequence[Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await pipeline.submit(rows, world.request())
    with pytest.raises(InvalidInputError, match=message):
        pipeline.estimate(rows, world.request())
    assert await pipeline.jobs() == []


async def test_the_status_is_the_plan_s(pipeline: EnrichmentPipeline, world: World) -> None:
    job_id = await pipeline.submit(world.rows(), world.request(), CONFIG)
    assert await pipeline.status(job_id) == {
        "job_id": job_id,
        "status": "pending",
        "progress": {"total": COUNT, "completed": 0, "failed": 0, "skipped": 0, "percent": 0.0},
        "started_at": None,
        "estimated_completion": None,
    }
    await pipeline.run(job_id)
    status = await pipeline.status(job_id)
    assert (status["status"], status["progress"]["percent"]) == ("completed", 100.0)
    assert status["started_at"].endswith("Z")


async def test_the_same_key_is_the_same_job(pipeline: EnrichmentPipeline, world: World) -> None:
    ids = {
        await pipeline.submit(world.rows(), world.request(), CONFIG, idempotency_key="monday")
        for _ in range(2)
    }
    assert len(ids) == 1
    other = world.request(["party"])
    with pytest.raises(InvalidInputError, match="other options"):
        await pipeline.submit(world.rows(), other, CONFIG, idempotency_key="monday")


async def test_pause_resume_and_cancel(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    slow = CONFIG.model_copy(update={"batch_size": 1, "max_parallel_batches": 2})
    job_id = await pipeline.submit(world.rows(), world.request(), slow)
    await pipeline.start(job_id)
    with pytest.raises(JobStateError, match="can't be started twice"):
        await pipeline.start(job_id)
    with pytest.raises(JobStateError, match="is running: it can't resume"):
        await pipeline.resume(job_id)
    await pipeline.pause(job_id)
    paused = await pipeline.wait(job_id)
    assert paused.status == "paused"
    states = {row.status async for row in pipeline.rows(job_id)}
    assert states <= {RowStatus.PAUSED, RowStatus.COMPLETED}
    await pipeline.resume(job_id)
    await pipeline.cancel(job_id)
    cancelled = await pipeline.wait(job_id)
    assert cancelled.status == "cancelled"
    await pipeline.resume(job_id)
    done = await pipeline.wait(job_id)
    assert (done.status, done.counts["completed"]) == ("completed", COUNT)
    with pytest.raises(JobStateError, match="is completed: it can't resume"):
        await pipeline.resume(job_id)
    assert done.cost_usd == served.providers.invoice.total_usd


async def test_a_row_has_a_budget(
    pipeline: EnrichmentPipeline, served: Served, world: World, database_url: str
) -> None:
    cap = Decimal("0.0025")
    config = CONFIG.model_copy(update={"row_budget_usd": cap})
    result = await pipeline.enrich(world.rows(), world.request(), config)
    spent = fetch(database_url, "SELECT run_id, sum(cost_usd) FROM cost_tracking GROUP BY 1")
    assert None not in {run_id for run_id, _ in spent}
    assert max(usd for _, usd in spent) <= cap
    reasons = {cell.reason for row in result.enriched_rows for cell in row.cells.values()}
    assert "the row's budget is used up" in reasons
    assert {row.status for row in result.enriched_rows} == {RowStatus.COMPLETED}


async def test_a_job_has_a_budget_and_goes_on_with_a_larger_one(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    config = CONFIG.model_copy(update={"budget_usd": Decimal("0.004")})
    result = await pipeline.enrich(world.rows(), world.request(), config)
    assert result.failed_rows > 0
    errors = {row.error.partition(":")[0] for row in result.enriched_rows if row.error}
    assert errors == {"budget_exceeded"}
    spent = (await pipeline.progress(result.job_id)).cost_usd
    assert spent <= Decimal("0.004")
    whole = await pipeline.enrich(world.rows(), world.request(), CONFIG)
    assert whole.failed_rows == 0
    total = spent + (await pipeline.progress(whole.job_id)).cost_usd
    assert total == served.providers.invoice.total_usd


WRONG, RIGHT = "nobody@example.org", "somebody@example.org"


class Wrong(LLMEnricher):
    """Says the same of everybody, with a quote that stands nowhere."""

    async def enrich_batch(
        self, crawl_data: Any, batch_rows: Any, columns_to_enrich: Any
    ) -> list[dict[str, Any]]:
        said = {"value": WRONG, "quote": "can be written to at this address", "url": None}
        return [{"row": n, "cells": {"email": said}} for n in range(len(batch_rows))]


async def test_weak_cells_wait_for_a_person(
    served: Served, costs: CostTracker, world: World
) -> None:
    async def emails(job_id: str) -> list[Any]:
        return [row.enriched_columns["email"] async for row in pipeline.rows(job_id)]

    async with made(served, costs, enricher=Wrong()) as pipeline:
        result = await pipeline.enrich(world.rows(3), world.request(["email"]), CONFIG)
        job_id = result.job_id
        assert await emails(job_id) == [None] * 3
        # A guess is no value: it stands beside the empty cell.
        for row in result.enriched_rows:
            cell = row.cells["email"]
            assert (cell.value, cell.verdict, cell.quote) == (None, "unverified", None)
            assert cell.conflicts[0].value == WRONG
        waiting = [one async for one in reviews(costs.db, PROJECT, job_id=job_id)]
        assert [one.value for one in waiting] == [WRONG] * 3
        ids = [one.id for one in sorted(waiting, key=lambda one: order(result, one.unit_key))]
        await decide(costs.db, PROJECT, ids[0], "accept", by="ann")
        await decide(costs.db, PROJECT, ids[1], "correct", value=RIGHT, by="ann")
        await decide(costs.db, PROJECT, ids[2], "reject", by="ann", note="no address")
        assert (await decide(costs.db, PROJECT, ids[0], "accept", by="bob")).by == "ann"
        with pytest.raises(JobStateError, match="was accepted already"):
            await decide(costs.db, PROJECT, ids[0], "reject")
        verdicts = [row.cells["email"].verdict async for row in pipeline.rows(job_id)]
        assert verdicts == ["accepted", "corrected", "rejected"]
        assert await emails(job_id) == [WRONG, RIGHT, None]
        assert [one async for one in reviews(costs.db, PROJECT, job_id=job_id)] == []
        # What a person has said outlives another look.
        await pipeline.rerun(job_id, steps=["enrich"])
        await pipeline.run(job_id)
        assert await emails(job_id) == [WRONG, RIGHT, None]


def order(result: EnrichmentResult, row_id: str) -> int:
    return [row.row_id for row in result.enriched_rows].index(row_id)


class Silent(SearchService):
    """Finds nothing."""

    async def search(self, queries: Sequence[str]) -> list[dict[str, Any]]:
        return []


async def test_a_host_replaces_a_part(served: Served, costs: CostTracker, world: World) -> None:
    async with made(served, costs, search_service=Silent()) as pipeline:
        result = await pipeline.enrich(world.rows(2), world.request(["party"]), CONFIG)
    assert calls(served) == 0
    cells = [row.cells["party"] for row in result.enriched_rows]
    assert {(cell.verdict, cell.value, cell.reason) for cell in cells} == {
        ("missing", None, "nothing was found")
    }


class Failing(WebCrawler):
    """Has no page to give; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def crawl(self, urls: Sequence[str], config: CrawlConfig) -> list[dict[str, Any]]:
        self.asked += len(urls)
        return [{"url": url, "text": "", "reason": "server_error"} for url in urls]


async def test_a_page_that_failed_is_no_answer(
    served: Served, costs: CostTracker, world: World
) -> None:
    crawler = Failing()
    async with made(served, costs, crawler=crawler, enricher=Wrong()) as pipeline:
        for _ in range(2):
            before = crawler.asked
            result = await pipeline.enrich(world.rows(2), world.request(["email"]), CONFIG)
            assert result.successful_rows == 2
            # It is asked for again: only what came is kept.
            assert crawler.asked > before


async def test_state_is_kept_in_files_as_well(
    pipeline: EnrichmentPipeline, world: World, costs: CostTracker, tmp_path: Path
) -> None:
    path = str(tmp_path / "state")
    config = CONFIG.model_copy(
        update={"enable_state_persistence": True, "state_persistence_path": path}
    )
    result = await pipeline.enrich(world.rows(3), world.request(["party"]), config)
    kept = await FileSystemStateStore(path).load_job_state(result.job_id)
    stored = PostgresStateStore(costs.db, PROJECT)
    assert kept is not None
    assert (kept.status, kept.completed_rows, len(kept.rows)) == ("completed", 3, 3)
    assert {row.status for row in kept.rows.values()} == {RowStatus.COMPLETED}
    loaded = await stored.load_job_state(result.job_id)
    assert loaded is not None
    assert loaded.rows.keys() == kept.rows.keys()
    row = next(iter(loaded.rows.values()))
    assert row.search_results
    assert row.enriched_data
    assert [batch.row_ids for batch in loaded.batches.values()] == [tuple(loaded.rows)]
    assert await stored.list_job_ids(JobStatus.COMPLETED) == [result.job_id]
    assert await stored.load_job_state("nothing") is None
    await stored.delete_job_state(result.job_id)
    assert await stored.list_job_ids() == []


async def test_workers_enrich_any_job(
    pipeline: EnrichmentPipeline, served: Served, world: World, database_url: str
) -> None:
    ids = [
        await pipeline.submit(world.rows(), world.request([column]), CONFIG)
        for column in ("party", "phone")
    ]
    for job_id in ids:
        await enqueue(database_url, PROJECT, job_id)
    await serve_jobs(database_url, PROJECT, [pipeline.for_workers()], once=True)
    for job_id, column in zip(ids, ("party", "phone"), strict=True):
        result = await pipeline.result(job_id)
        assert (result.status, result.successful_rows) == ("completed", COUNT)
        assert {tuple(row.cells) for row in result.enriched_rows} == {(column,)}
    far = [await pipeline.progress(job_id) for job_id in ids]
    assert sum(one.cost_usd for one in far) == served.providers.invoice.total_usd


async def test_a_job_of_another_kind_is_none(
    pipeline: EnrichmentPipeline, costs: CostTracker
) -> None:
    from llm_common.runs import NewJob, NewUnit, create_job

    job, _ = await create_job(costs.db, PROJECT, NewJob("other"), [NewUnit("a", {})])
    for asked in (pipeline.status(job.job_id), pipeline.resume(job.job_id)):
        with pytest.raises(InvalidInputError, match="is no enrichment"):
            await asked
    with pytest.raises(InvalidInputError, match="has no job"):
        await pipeline.cancel("nothing")


async def test_rows_that_share_a_call_share_its_cost(
    pipeline: EnrichmentPipeline, served: Served, world: World
) -> None:
    await pipeline.enrich(world.rows(), world.request(["party"]), CONFIG)
    asked = [request for request in served.providers.requests if request.model]
    # Eight rows are asked for together, by their snippets first.
    assert 1 <= len(asked) < COUNT


def test_a_request_says_what_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match="has no type 'fone': use one of"):
        EnrichmentRequest(keys=("name",), columns_to_enrich=("phone:fone",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="named twice"):
        EnrichmentRequest(keys=("name",), columns_to_enrich=("name",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Phone: 916-555-0100 … Email: ann@assembly.ca.", "Phone: 916-555-0100\nEmail:"),
        ("She sits for Fresno ... Party: Democratic now", "She sits for Fresno\nParty: Democratic"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_snippet_says_no_more_than_it_does(said: str | None, text: str) -> None:
    page = snippet({"url": "https://a.example/", "title": "Ann Lee", "snippet": said})
    assert page["text"] == f"Ann Lee\n\n{text}".strip()
