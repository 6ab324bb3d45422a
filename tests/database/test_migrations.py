from llm_common.database.migrations import down, status, up, verify


async def test_up_down(empty_url):
    assert await verify(empty_url)
    assert len(await up(empty_url)) >= 1
    assert await verify(empty_url) == []
    assert await up(empty_url) == []
    assert {s.state for s in await status(empty_url)} == {"applied"}
    await down(empty_url, to="all")
    assert {s.state for s in await status(empty_url)} == {"pending"}


async def test_call(db):
    assert await db.call("llm_schema", {}) == {"version": 1}
    assert await db.call("llm_costs", {"kind": "daily", "day": "2026-11-21"}) == {
        "total_cost": "0",
        "unpriced": 0,
    }
    for g in ["model", "step", "project", "user", "task", "day", "run", "status"]:
        assert await db.call(
            "llm_costs",
            {"kind": "breakdown", "start": "2026-11-21", "end": "2026-11-21", "group_by": g},
        ) == {"rows": []}
    assert await db.call(
        "llm_costs", {"kind": "compare", "start": "2026-11-21", "end": "2026-11-21"}
    ) == {"rows": []}
