"""The runner against real servers: empty, populated, adopted."""

from __future__ import annotations

import asyncio
import dataclasses
import re

import pytest

from llm_common.database.migrations import down, read, status, up, verify
from llm_common.database.migrations import session as sessions
from llm_common.database.migrations.session import session
from llm_common.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    MigrationError,
)
from tests.servers import execute, fetch
from tests.support import plan

OBJECTS = """
    SELECT 'relation ' || relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'function ' || proname FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT 'policy ' || polname FROM pg_policy
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1
"""

ROWS = """
    INSERT INTO cost_tracking (model, step, cost_usd, tokens_used, timestamp, project) VALUES
        ('gpt-4o', 'generate', 0.012345, 1200, '2025-12-01 23:30:00', 'affordabot'),
        ('gpt-4o-mini', 'research', 0.000001, 10, '2025-12-02 00:30:00', 'prime');
    INSERT INTO web_search_cache (cache_key, query, results) VALUES ('k', 'q', '[]');
    INSERT INTO pipeline_runs (bill_id, generate_model, review_model, status, quality_score)
        VALUES ('AB-1', 'gpt-4o', 'claude', 'completed', 0.75);
    INSERT INTO pipeline_steps (run_id, step, model) SELECT id, 'review', 'm' FROM pipeline_runs;
    INSERT INTO conversations (user_id, role, content, timestamp) VALUES
        ('00000000-0000-0000-0000-000000000001', 'assistant', 'second', '2025-12-01 10:00:01'),
        ('00000000-0000-0000-0000-000000000001', 'user', 'first', '2025-12-01 10:00:00');
"""


def plan_sql() -> str:
    blocks = re.findall(r"```sql\n(.*?)```", plan("llm-common-migration.md"), re.DOTALL)
    return "\n".join(block for block in blocks if "CREATE TABLE" in block)


@pytest.fixture(params=["server", "pg15"])
def any_server(request):
    """Each test runs on the newest and on the oldest supported Postgres."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def url(any_server):
    with any_server.database() as lent:
        yield lent


@pytest.fixture
def other_url(any_server):
    with any_server.database() as lent:
        yield lent


async def test_up_applies_everything_once(url):
    assert [file.version for file in await up(url)] == [file.version for file in read()]
    assert await up(url) == []
    assert {row.state for row in await status(url)} == {"applied"}
    assert await verify(url) == []


async def test_a_database_without_history_is_pending(url):
    assert {row.state for row in await status(url)} == {"pending"}
    assert f"migration {read()[0].version}_{read()[0].name} is pending" in await verify(url)


async def test_down_leaves_nothing(url):
    before = fetch(url, OBJECTS)
    await up(url)
    undone = await down(url, to="all")
    assert [file.version for file in undone] == [file.version for file in reversed(read())]
    assert fetch(url, OBJECTS) == before == []


async def test_every_step_down_and_up_dumps_the_same(any_server, url):
    dumps = [any_server.dump(url)]
    for count in range(1, len(read()) + 1):
        await up(url, migrations=read()[:count])
        dumps.append(any_server.dump(url))
    for expected in reversed(dumps[:-1]):
        await down(url)
        assert any_server.dump(url) == expected
    await up(url)
    assert any_server.dump(url) == dumps[-1]


async def test_down_works_on_populated_tables(any_server, url):
    empty = any_server.dump(url)
    await up(url)
    execute(url, ROWS)
    await down(url, to="all")
    assert any_server.dump(url) == empty


async def test_files_run_twice_change_nothing(any_server, url):
    await up(url)
    execute(url, ROWS)
    expected = any_server.dump(url)
    objects = fetch(url, "SELECT * FROM llm_objects ORDER BY kind, name")
    for file in read():
        execute(url, f"SET search_path = public, pg_temp;\n{file.sql}")
    assert any_server.dump(url) == expected
    assert fetch(url, "SELECT * FROM llm_objects ORDER BY kind, name") == objects


async def test_the_plans_tables_are_adopted(any_server, url, other_url):
    execute(url, plan_sql())
    execute(url, ROWS)
    await up(url)
    await up(other_url)
    assert any_server.dump(url) == any_server.dump(other_url)
    assert await verify(url) == []
    assert fetch(
        url,
        "SELECT kind, status, attempt_no, operation_id = id, accounted_on::text,"
        " timestamp AT TIME ZONE 'UTC' = accounted_on + timestamp::time, cost_usd::text"
        " FROM cost_tracking ORDER BY timestamp".replace(
            "accounted_on + timestamp::time",
            "accounted_on + (timestamp AT TIME ZONE 'UTC')::time",
        ),
    ) == [
        ("external", "ok", 1, True, "2025-12-01", True, "0.012345000000"),
        ("external", "ok", 1, True, "2025-12-02", True, "0.000001000000"),
    ]
    assert fetch(url, "SELECT content, seq FROM conversations ORDER BY seq") == [
        ("first", 1),
        ("second", 2),
    ]


async def test_timestamps_are_read_as_utc_whatever_the_servers_zone(url):
    execute(url, plan_sql())
    execute(url, ROWS)
    execute(
        url,
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Tokyo''',"
        " current_database()); END$$",
    )
    await up(url)
    assert fetch(url, "SELECT min(timestamp) = '2025-12-01 23:30:00+00' FROM cost_tracking") == [
        (True,)
    ]


async def test_down_gives_a_host_its_own_back(url):
    execute(url, plan_sql())
    execute(url, ROWS)
    host = OBJECTS
    columns = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY 1, ordinal_position
    """
    functions = """
        SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY proname
    """
    rows = "SELECT model, step, cost_usd::text::float8, project FROM cost_tracking ORDER BY 1"
    before = [fetch(url, sql) for sql in (host, columns, functions, rows)]
    await up(url)
    await down(url, to="all")
    assert [fetch(url, sql) for sql in (host, columns, functions, rows)] == before


async def test_a_hosts_own_column_survives(url):
    execute(
        url,
        "CREATE TABLE cost_tracking (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),"
        " model text NOT NULL, step text, cost_usd numeric(10, 6) NOT NULL, tokens_used integer,"
        " timestamp timestamp NOT NULL DEFAULT now(), project text, arm text DEFAULT 'mine')",
    )
    execute(url, "INSERT INTO cost_tracking (model, cost_usd) VALUES ('m', 1)")
    await up(url)
    await down(url, to="all")
    assert fetch(url, "SELECT model, arm FROM cost_tracking") == [("m", "mine")]


async def test_an_old_insert_still_fits_and_is_counted(url):
    await up(url)
    execute(
        url,
        "INSERT INTO cost_tracking (model, step, cost_usd, tokens_used)"
        " VALUES ('gpt-4o', 'generate', 0.5, 100)",
    )
    day = "(clock_timestamp() AT TIME ZONE 'UTC')::date"
    assert fetch(url, f"SELECT total_cost::text, unpriced FROM get_daily_cost({day})") == [
        ("0.500000000000", 0)
    ]


async def test_an_edited_file_is_refused(url):
    files = read()
    await up(url)
    edited = (*files[:-1], dataclasses.replace(files[-1], sql=files[-1].sql + "-- later\n"))
    assert [row.state for row in await status(url, migrations=edited)][-1] == "changed"
    assert f"migration {files[-1].version}_{files[-1].name} is changed" in await verify(
        url, migrations=edited
    )
    with pytest.raises(MigrationError, match=f"{files[-1].file} changed after it ran"):
        await up(url, migrations=edited)


async def test_a_failing_file_changes_nothing_and_is_named(url):
    first = read()[0]
    broken = dataclasses.replace(
        read()[1], sql="CREATE TABLE half (id int);\nSELECT\n  no_such_column;\n"
    )
    with pytest.raises(MigrationError, match=rf"{broken.file} failed on line 3 .*42703"):
        await up(url, migrations=[first, broken])
    assert [row.state for row in await status(url, migrations=[first, broken])] == [
        "applied",
        "pending",
    ]
    assert fetch(url, "SELECT to_regclass('half') IS NULL") == [(True,)]


async def test_two_migrators_at_once_share_the_work(url):
    done = await asyncio.gather(*(up(url) for _ in range(4)))
    applied = [file.version for files in done for file in files]
    assert applied == [file.version for file in read()]


async def test_down_stops_at_a_version(url):
    await up(url)
    files = read()
    undone = await down(url, to=files[0].version)
    assert [file.version for file in undone] == [file.version for file in reversed(files[1:])]
    assert (await status(url))[0].state == "applied"


async def test_down_refuses_what_it_does_not_know(url):
    await up(url)
    with pytest.raises(MigrationError, match="is not applied"):
        await down(url, to="20200101000000")
    with pytest.raises(MigrationError, match="newer llm-common"):
        await down(url, migrations=read()[:-1])
    assert [row.state for row in await status(url, migrations=read()[:-1])][-1] == "unknown"


async def test_a_schema_of_its_own(url):
    await up(url, "tenant one")
    await up(url)
    assert await verify(url, "tenant one") == []
    execute(url, "INSERT INTO public.cost_tracking (model, cost_usd) VALUES ('m', 1)")
    assert fetch(
        url,
        'SELECT total_cost::int FROM "tenant one".get_daily_cost('
        "(clock_timestamp() AT TIME ZONE 'UTC')::date)",
    ) == [(0,)]
    await down(url, "tenant one", to="all")
    assert await verify(url) == []


async def test_a_supabase_client_is_not_enough():
    with pytest.raises(ConfigurationError, match="direct Postgres connection"):
        await up(object())
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        await up()


async def test_no_server_is_said_so(tmp_path):
    with pytest.raises(DatabaseUnavailableError, match="can't be reached"):
        await up(f"postgresql://u@/d?host={tmp_path}")


@pytest.mark.parametrize("count", range(1, len(read()) + 1))
async def test_going_back_forgets_what_went(url, count):
    await up(url)
    await down(url, to=read()[count - 1].version)
    assert await verify(url, migrations=read()[:count]) == []


async def test_without_its_lock_nothing_runs(url):
    # So it is behind a transaction pooler, which gives every transaction another server process.
    async with session(url, "public") as work:
        with pytest.raises(MigrationError, match="migrate over a direct one"):
            await work.apply(read()[0])
    assert fetch(url, OBJECTS) == []


async def test_a_migrator_that_never_ends_is_named(url, monkeypatch):
    monkeypatch.setattr(sessions, "LOCK_WAIT_S", 0.2)
    async with session(url, "public") as work, work.locked():
        with pytest.raises(MigrationError, match="another migrator holds the lock"):
            await up(url)


async def test_what_the_server_refuses_is_ours_to_say(url):
    await up(url)
    execute(url, "ALTER TABLE llm_migrations RENAME checksum TO sum")
    with pytest.raises(DatabaseError, match="the migrator failed with SQLSTATE 42703"):
        await status(url)
