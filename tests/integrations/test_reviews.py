"""The review queue over HTTP: who decided what, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from llm_common import CostTracker
from llm_common.enrichment.interfaces import LLMEnricher
from llm_common.integrations.fastapi import enrichment_router
from llm_common.review import Doubt, put_doubts
from llm_common.runs import NewJob, NewUnit, create_job, units_of
from tests.enrichment.world import Served, World
from tests.enrichment.world.pipelines import made

from .conftest import PROJECT
from .serving import Api, authorize, running
from .test_enrichment_api import CONFIG


class Wrong(LLMEnricher):
    """Says the same of everybody, with a quote that stands nowhere."""

    async def enrich_batch(
        self, crawl_data: Any, batch_rows: Any, columns_to_enrich: Any
    ) -> list[dict[str, Any]]:
        said = {"value": "Independent", "quote": "is an Independent of this state", "url": None}
        return [{"row": n, "cells": {"party": said}} for n in range(len(batch_rows))]


@pytest.fixture
async def api(served: Served, costs: CostTracker) -> AsyncIterator[Api]:
    async with made(served, costs, enricher=Wrong()) as pipeline:
        app = FastAPI()
        app.include_router(enrichment_router(pipeline, authorize=authorize))
        async with running(app) as api:
            yield api


async def doubtful(api: Api, world: World, count: int = 4) -> str:
    column = {"name": "party", "type": "choice", "choices": ["Democratic", "Independent"]}
    request = {"keys": ["name", "state"], "columns_to_enrich": [column, "phone:phone"]}
    given = {"rows": world.rows(count), "request": request, "config": CONFIG}
    job_id = (await api.ok("POST", "/jobs", json=given))["job_id"]
    await api.over(job_id)
    return job_id


async def test_a_person_decides(api: Api, world: World) -> None:
    job_id = await doubtful(api, world)
    found = await api.ok("GET", f"/reviews?job_id={job_id}&state=open")
    assert [one["value"] for one in found["reviews"]] == ["Independent"] * 4
    # They come as rows end; here, in the order of the table.
    ids = {one["row"]["name"]: one["id"] for one in found["reviews"]}
    first, second, third, fourth = (ids[row["name"]] for row in world.rows(4))
    accepted = await api.ok("POST", f"/reviews/{first}/accept")
    assert (accepted["state"], accepted["by"], accepted["row"]) == (
        "accepted", "ann", world.rows(1)[0],
    )  # fmt: skip
    corrected = await api.ok(
        "POST", f"/reviews/{second}/correct", json={"value": "democratic", "note": "by phone"}
    )
    assert (corrected["decided"], corrected["note"]) == ("Democratic", "by phone")
    await api.ok("POST", f"/reviews/{third}/reject", json={"note": "no such party"})
    again = await asyncio.gather(
        *(api.ok("POST", f"/reviews/{fourth}/accept", json={}) for _ in range(5))
    )
    assert {one["decided_at"] for one in again} == {again[0]["decided_at"]}
    rows = (await api.ok("GET", f"/jobs/{job_id}/rows"))["rows"]
    assert [row["cells"]["party"]["verdict"] for row in rows] == [
        "accepted", "corrected", "rejected", "accepted",
    ]  # fmt: skip
    assert [row["enriched_columns"]["party"] for row in rows] == [
        "Independent", "Democratic", None, "Independent",
    ]  # fmt: skip
    assert (await api.ok("GET", "/reviews?state=open"))["reviews"] == []
    status, said = await api.refused("POST", f"/reviews/{first}/reject")
    assert (status, said) == (409, f"review {first} was accepted already")


async def test_the_queue_comes_by_pages(api: Api, world: World) -> None:
    await doubtful(api, world)
    first = await api.ok("GET", "/reviews?limit=3")
    rest = await api.ok("GET", f"/reviews?limit=3&after={first['next']}")
    assert (len(first["reviews"]), len(rest["reviews"]), rest["next"]) == (3, 1, None)
    assert await api.ok("GET", "/reviews?job_id=nothing") == {"reviews": [], "next": None}


async def test_a_correction_is_of_the_column_s_type(api: Api, world: World) -> None:
    await doubtful(api, world, 1)
    (one,) = (await api.ok("GET", "/reviews"))["reviews"]
    path = f"/reviews/{one['id']}/correct"
    status, said = await api.refused("POST", path, json={"value": "Pirate"})
    assert status == 422
    assert said == "value: party takes a value of type choice, one of Democratic, Independent"
    refused = [{}, {"value": None}, {"value": []}, {"value": "x", "more": 1}]
    assert {(await api.refused("POST", path, json=given))[0] for given in refused} == {422}
    assert (await api.ok("GET", "/reviews?state=open"))["reviews"] == [one]


async def test_a_doubt_of_another_kind_of_job(api: Api, costs: CostTracker) -> None:
    """The queue is the project's."""
    job, _ = await create_job(costs.db, PROJECT, NewJob("other"), [NewUnit("a", {})])
    (unit,) = [one async for one in units_of(costs.db, PROJECT, job.job_id)]
    where = {"project": PROJECT, "job_id": job.job_id}
    await put_doubts(costs.db, where, unit["run_id"], "a", [Doubt("anything", "x", {})])
    (one,) = (await api.ok("GET", "/reviews"))["reviews"]
    assert (one["field"], one["row"]) == ("anything", {})
    decided = await api.ok("POST", f"/reviews/{one['id']}/correct", json={"value": "as it is"})
    assert decided["decided"] == "as it is"


async def test_a_review_that_there_is_not(api: Api) -> None:
    for review in ("nothing", "00000000-0000-0000-0000-000000000000"):
        for action, given in (("accept", {}), ("correct", {"value": "x"}), ("reject", {})):
            path = f"/reviews/{review}/{action}"
            assert (await api.refused("POST", path, json=given))[0] == 404
