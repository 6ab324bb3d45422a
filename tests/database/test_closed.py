"""Nothing of ours is open to a browser, on a project that grants everything by default."""

from __future__ import annotations

import psycopg
import pytest

from llm_common.database.migrations import up, verify
from tests import postgrest
from tests.servers import execute, fetch

RELATIONS = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
TABLES = f"{RELATIONS} AND relkind = 'r' ORDER BY 1"
SEQUENCES = f"{RELATIONS} AND relkind = 'S' ORDER BY 1"
FUNCTIONS = """
    SELECT oid::regprocedure::text FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace ORDER BY 1
"""


@pytest.fixture
async def project_url(server):
    """A database with Supabase's default privileges, migrated."""
    with server.database() as url:
        execute(url, postgrest.DEFAULT_PRIVILEGES)
        await up(url)
        yield url


def allowed(url: str, role: str) -> list[str]:
    """Everything of ours that a role may touch."""
    found = []
    with psycopg.connect(url) as connection:
        for kind, query, privileges in (
            ("table", TABLES, "SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER"),
            ("sequence", SEQUENCES, "USAGE,SELECT,UPDATE"),
            ("function", FUNCTIONS, "EXECUTE"),
        ):
            check = f"SELECT has_{kind}_privilege(%s, %s, %s)"
            for (name,) in fetch(url, query):
                if connection.execute(check, (role, name, privileges)).fetchone() == (True,):
                    found.append(name)
    return found


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_a_browser_may_touch_nothing(project_url, role):
    assert allowed(project_url, role) == []


async def test_a_stranger_may_touch_nothing(server, project_url):
    server.execute("CREATE ROLE stranger")
    try:
        assert allowed(project_url, "stranger") == []
    finally:
        server.execute("DROP ROLE stranger")


async def test_a_back_end_may_use_everything(project_url):
    everything = [
        name for query in (TABLES, SEQUENCES, FUNCTIONS) for (name,) in fetch(project_url, query)
    ]
    assert allowed(project_url, "service_role") == everything


async def test_every_table_has_row_level_security(project_url):
    assert (
        fetch(
            project_url,
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND"
            " relnamespace = 'public'::regnamespace AND NOT relrowsecurity",
        )
        == []
    )


async def test_every_function_pins_its_search_path(project_url):
    assert (
        fetch(
            project_url,
            "SELECT proname FROM pg_proc WHERE"
            " pronamespace = 'public'::regnamespace AND NOT coalesce(proconfig @>"
            " ARRAY['search_path=public, pg_temp'], false)",
        )
        == []
    )


async def test_no_function_is_overloaded(project_url):
    assert (
        fetch(
            project_url,
            "SELECT proname FROM pg_proc WHERE pronamespace ="
            " 'public'::regnamespace GROUP BY proname HAVING count(*) > 1",
        )
        == []
    )


async def test_conversations_run_as_their_caller(project_url):
    assert (
        fetch(
            project_url,
            "SELECT proname FROM pg_proc WHERE prosecdef AND proname ~ 'conversation|message'",
        )
        == []
    )


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("GRANT SELECT ON cost_tracking TO anon", "table cost_tracking is open to anon"),
        ("GRANT SELECT ON cost_tracking TO PUBLIC", "table cost_tracking is open to PUBLIC"),
        (
            "GRANT EXECUTE ON FUNCTION llm_costs TO authenticated",
            "function llm_costs is open to authenticated",
        ),
        ("GRANT EXECUTE ON FUNCTION llm_costs TO PUBLIC", "function llm_costs is open to PUBLIC"),
        (
            "ALTER TABLE conversations DISABLE ROW LEVEL SECURITY",
            "table conversations is without row level security",
        ),
        ("DROP TABLE pipeline_steps CASCADE", "table pipeline_steps is missing"),
        ("DROP FUNCTION llm_costs", "function llm_costs is missing"),
        ("DROP INDEX idx_cost_run_id", "index idx_cost_run_id is missing"),
        ("ALTER TABLE cost_tracking DROP COLUMN arm", "column cost_tracking.arm is missing"),
        (
            "CREATE FUNCTION get_daily_cost(date) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "function get_daily_cost is overloaded",
        ),
    ],
)
async def test_verify_names_the_damage(project_url, damage, problem):
    assert await verify(project_url) == []
    execute(project_url, damage)
    assert problem in await verify(project_url)
