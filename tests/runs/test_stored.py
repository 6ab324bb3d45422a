"""What a step returns before its result is durable equals what the database has of it later."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_common.database import Database
from llm_common.runs.canonical import as_stored, plain
from tests.runs.test_canonical import JSONS
from tests.servers import fetch


def same(one: Any, other: Any) -> bool:
    """Compare types as well: 1 is not 1.0, and 0.0 is not -0.0."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [1e16, 1e22, -0.0, 1e-7, 5e-324, 1.7976931348623157e308, 123456789012345680.0]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(JSONS | NUMBERS | st.text(), max_size=5))
def test_it_is_what_jsonb_gives_back(server: Any, values: list[Any]) -> None:
    import json

    from llm_common.database.payload import encode

    given_ = plain(values)
    text = encode(given_).replace("'", "''")
    stored = fetch(server.url, f"SELECT ('{text}'::jsonb)::text")[0][0]
    assert same(as_stored(given_), json.loads(stored))


async def test_it_is_what_a_step_returns_the_second_time(db: Database) -> None:
    from llm_common.runs import NewJob, NewUnit, Pipeline, create_job, units_of, work

    odd = {"a": 1e22, "b": -0.0, "c": "x\0y", "d": [1.0, 2], "e": "\ud800"}
    seen: list[Any] = []

    async def make() -> Any:
        return odd

    async def unit(run: Any, given: Any) -> Any:
        seen.append(await run.step("make", make, {}))
        return seen[-1]

    for _ in range(2):
        job, _new = await create_job(db, "p", NewJob("odd"), [NewUnit("u", {})])
        await work(db, "p", job.job_id, Pipeline("odd", unit))
        (found,) = [u async for u in units_of(db, "p", job.job_id)]
        assert same(found["output"], seen[-1])
    assert same(seen[0], seen[1])
