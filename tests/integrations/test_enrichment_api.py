"""Enrichment over HTTP: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from llm_common import CostTracker, EnrichmentPipeline
from llm_common.enrichment import open_table
from llm_common.errors import (
    BudgetExceededError,
    DatabaseUnavailableError,
    DocumentError,
    InvalidInputError,
    JobConflictError,
    JobStateError,
    LLMCommonError,
    MissingKeyError,
    SchemaError,
    SpoolError,
    UnknownPriceError,
)
from llm_common.integrations.fastapi import enrichment_router
from llm_common.integrations.fastapi.problems import ProblemRoute
from tests.enrichment.world import Served, World
from tests.enrichment.world.pipelines import made

from .conftest import COUNT
from .serving import Api, authorize, running

CONFIG = {"model": "gpt-4o-mini", "retry_delay_seconds": 0.01}


def wanted(world: World, columns: list[str] | None = None) -> dict[str, Any]:
    request = world.request() if columns is None else world.request(columns)
    return request.model_dump(mode="json")


def body(world: World, **changes: Any) -> dict[str, Any]:
    given = {"rows": world.rows(), "request": wanted(world), "config": CONFIG}
    return {**given, **changes}


async def submitted(api: Api, world: World, **changes: Any) -> str:
    return (await api.ok("POST", "/jobs", json=body(world, **changes)))["job_id"]


async def test_from_a_table_to_values_with_evidence(api: Api, world: World) -> None:
    answer = await api.post("/enrichment/jobs", json=body(world))
    assert answer.status_code == 202
    assert set(answer.json()) == {"job_id", "status"}
    job_id = answer.json()["job_id"]
    status = await api.over(job_id)
    assert set(status) == {"job_id", "status", "progress", "started_at", "estimated_completion"}
    assert status["progress"] == {
        "total": COUNT, "completed": COUNT, "failed": 0, "skipped": 0, "percent": 100.0,
    }  # fmt: skip
    assert status["started_at"].endswith("Z")
    result = await api.ok("GET", f"/jobs/{job_id}/result")
    assert (result["status"], result["successful_rows"]) == ("completed", COUNT)
    assert [row["original_data"] for row in result["enriched_rows"]] == world.rows()
    for row in result["enriched_rows"]:
        party = row["enriched_columns"]["party"]
        assert party in {None, world.truth(row["original_data"], "party").value}
        for name, cell in row["cells"].items():
            if row["enriched_columns"][name] is not None:
                assert cell["quote"]
                assert cell["url"].startswith("https://")
    jobs = (await api.ok("GET", "/jobs"))["jobs"]
    assert [job["job_id"] for job in jobs] == [job_id]
    assert jobs[0]["keys"] == ["name", "state"]
    assert jobs[0] == await api.ok("GET", f"/jobs/{job_id}")
    assert await api.ok("GET", "/jobs?status=paused") == {"jobs": []}


async def test_the_json_result_is_the_pipeline_s(
    api: Api, pipeline: EnrichmentPipeline, world: World
) -> None:
    job_id = await submitted(api, world)
    await api.over(job_id)
    told = await api.ok("GET", f"/jobs/{job_id}/result")
    assert told == json.loads((await pipeline.result(job_id)).model_dump_json())


async def test_rows_come_by_pages(api: Api, world: World) -> None:
    job_id = await submitted(api, world)
    await api.over(job_id)
    after, pages = 0, []
    while after is not None:
        page = await api.ok("GET", f"/jobs/{job_id}/rows?after={after}&limit=4")
        pages.append(page["rows"])
        after = page["next"]
    assert [len(page) for page in pages] == [4, 2]
    assert [row["original_data"] for page in pages for row in page] == world.rows()


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
async def test_files_hold_the_same(api: Api, world: World, tmp_path: Path, kind: str) -> None:
    job_id = await submitted(api, world)
    await api.over(job_id)
    answer = await api.get(f"/enrichment/jobs/{job_id}/result?format={kind}")
    disposition = f'attachment; filename="enrichment-{job_id}.{kind}"'
    assert answer.headers["content-disposition"] == disposition
    path = tmp_path / f"table.{kind}"
    path.write_bytes(answer.content)
    rows = [row for batch in open_table(path).batches() for row in batch]
    result = await api.ok("GET", f"/jobs/{job_id}/result")
    found = [row["enriched_columns"]["party"] for row in result["enriched_rows"]]
    assert [row["party"] for row in rows] == found
    assert [row["name"] for row in rows] == [row["name"] for row in world.rows()]


async def test_lines_of_json(api: Api, world: World) -> None:
    job_id = await submitted(api, world)
    await api.over(job_id)
    answer = await api.get(f"/enrichment/jobs/{job_id}/result?format=jsonl")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["original_data"] for line in lines] == world.rows()


async def test_a_result_before_the_end_is_partial(api: Api, world: World) -> None:
    answer = await api.post("/enrichment/jobs?start=false", json=body(world))
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    job_id = answer.json()["job_id"]
    status, said = await api.refused("GET", f"/jobs/{job_id}/result")
    assert status == 409
    assert said == f"job {job_id} is pending, not over: wait, or ask with partial=true"
    partial = await api.ok("GET", f"/jobs/{job_id}/result?partial=true")
    assert {row["status"] for row in partial["enriched_rows"]} == {"pending"}
    csv = await api.get(f"/enrichment/jobs/{job_id}/result?partial=true&format=csv")
    assert len(csv.text.splitlines()) == COUNT + 1
    await api.ok("POST", f"/jobs/{job_id}/resume")
    assert (await api.over(job_id))["status"] == "completed"


async def test_an_estimate_stores_and_pays_nothing(api: Api, served: Served, world: World) -> None:
    rows = [*world.rows(), {"name": "", "state": "CA"}]
    answer = await api.post("/enrichment/jobs?dry_run=true", json=body(world, rows=rows))
    told = answer.json()
    assert (answer.status_code, told["rows"], told["searches"]) == (200, COUNT, COUNT)
    assert told["skipped"] == [{"number": COUNT + 1, "reason": "key column name is empty"}]
    assert float(told["likely_usd"]) > 0
    assert await api.ok("GET", "/jobs") == {"jobs": []}
    assert served.providers.requests == []


async def test_pause_resume_cancel_and_retry(api: Api, world: World) -> None:
    slow = {**CONFIG, "batch_size": 1, "max_parallel_batches": 1}
    job_id = await submitted(api, world, config=slow)
    assert (await api.ok("POST", f"/jobs/{job_id}/pause"))["status"] == "paused"
    assert (await api.refused("POST", f"/jobs/{job_id}/pause"))[0] == 409
    while (await api.post(f"/enrichment/jobs/{job_id}/resume")).status_code == 409:
        await asyncio.sleep(0.05)  # The row under way ends first.
    assert (await api.ok("POST", f"/jobs/{job_id}/cancel"))["status"] == "cancelled"
    assert (await api.refused("POST", f"/jobs/{job_id}/cancel"))[0] == 409
    assert (await api.refused("POST", f"/jobs/{job_id}/retry"))[0] == 409
    while (await api.post(f"/enrichment/jobs/{job_id}/resume")).status_code == 409:
        await asyncio.sleep(0.05)
    assert (await api.over(job_id))["status"] == "completed"
    status, said = await api.refused("POST", f"/jobs/{job_id}/resume")
    assert (status, said) == (409, f"job {job_id} is completed: it can't resume")
    assert (await api.ok("POST", f"/jobs/{job_id}/retry"))["requeued"] == 0


async def test_what_failed_is_tried_again(api: Api, world: World) -> None:
    job_id = await submitted(api, world, config={**CONFIG, "budget_usd": "0.003"})
    failed = (await api.over(job_id))["progress"]["failed"]
    assert failed > 0
    again = await api.ok("POST", f"/jobs/{job_id}/retry")
    assert again["requeued"] == failed
    assert (await api.over(job_id))["progress"]["total"] == COUNT


async def test_the_same_key_at_the_same_time_is_one_job(api: Api, world: World) -> None:
    headers = {"Idempotency-Key": "monday"}
    answers = await asyncio.gather(
        *(api.post("/enrichment/jobs", json=body(world), headers=headers) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    (job_id,) = {answer.json()["job_id"] for answer in answers}
    assert (await api.over(job_id))["progress"]["total"] == COUNT
    assert len((await api.ok("GET", "/jobs"))["jobs"]) == 1
    others = [
        body(world, rows=world.rows()[1:]),
        body(world, request=wanted(world, ["party"])),
        body(world, config={**CONFIG, "batch_size": 3}),
    ]
    for other in others:
        status, said = await api.refused("POST", "/jobs", json=other, headers=headers)
        assert (status, "made with other options" in said) == (409, True)
    answer = await api.post("/enrichment/jobs", json=body(world))
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": []}, "the body can't be used: rows: List should have at least 1 item"),
        ({"rows": [{"nam": "A", "state": "CA"}]}, "the table has no column 'name'"),
        ({"request": {"keys": ["name"], "columns_to_enrich": ["a:b"]}}, "has no type 'b'"),
        ({"config": {"batch_size": 0}}, "config.batch_size"),
        ({"config": {"state_persistence_path": "/tmp/x"}}, "is for the server to say"),
        ({"config": {"enable_state_persistence": True}}, "is for the server to say"),
        ({"more": 1}, "more: Extra inputs"),
    ],
)
async def test_a_body_that_will_not_do(
    api: Api, world: World, change: dict[str, Any], said: str
) -> None:
    status, detail = await api.refused("POST", "/jobs", json=body(world, **change))
    assert status == 422
    assert said in detail
    assert await api.ok("GET", "/jobs") == {"jobs": []}


async def test_ids_that_nothing_has(api: Api) -> None:
    paths = ["", "/status", "/result", "/rows", "/events"]
    found = [await api.refused("GET", f"/jobs/nothing{path}") for path in paths]
    actions = ("pause", "resume", "cancel", "retry")
    found += [await api.refused("POST", f"/jobs/nothing/{action}") for action in actions]
    assert set(found) == {(404, "project legislators has no job nothing")}
    assert (await api.refused("POST", "/reviews/nothing/accept"))[0] == 404
    assert (await api.refused("GET", "/jobs?limit=0"))[0] == 422
    assert (await api.refused("GET", "/jobs?status=odd"))[0] == 422


async def test_a_stranger_comes_nowhere_in(api: Api, app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    asked = [(method.upper(), path) for path, how in paths.items() for method in how]
    assert len(asked) == 15
    for method, path in asked:
        for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}):
            answer = await api.request(method, path, headers=headers, json={})
            assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"})


def test_a_router_is_closed_by_default() -> None:
    with pytest.raises(TypeError, match="authorize"):
        enrichment_router(None)  # type: ignore[call-arg, arg-type]
    with pytest.raises(InvalidInputError, match="needs authorize=, a dependency that refuses"):
        enrichment_router(None, authorize=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInputError, 422),
        (DocumentError, 422),
        (JobConflictError, 409),
        (JobStateError, 409),
        (BudgetExceededError, 402),
        (UnknownPriceError, 402),
        (DatabaseUnavailableError, 503),
        (SchemaError, 503),
        (MissingKeyError, 500),
        (SpoolError, 500),
    ],
)
async def test_every_error_has_its_status(error: type[LLMCommonError], status: int) -> None:
    def raises() -> None:
        raise error("what is wrong")

    app = FastAPI()
    router = APIRouter(route_class=ProblemRoute)
    router.add_api_route("/enrichment/x", raises)
    app.include_router(router)
    async with running(app) as api:
        assert await api.refused("GET", "/x") == (status, "what is wrong")


async def test_a_database_that_is_away(served: Served) -> None:
    costs = CostTracker("postgresql://nobody@127.0.0.1:1/none", project="test")
    app = FastAPI()
    async with made(served, costs) as pipeline:
        app.include_router(enrichment_router(pipeline, authorize=authorize))
        async with running(app) as api:
            status, said = await api.refused("GET", "/jobs")
    assert status == 503
    assert "nobody" not in said
