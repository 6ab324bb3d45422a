"""The rows of a query, which can't write."""

from __future__ import annotations

import pytest

from llm_common.enrichment.tables import open_table
from llm_common.errors import ConfigurationError, DatabaseUnavailableError, InvalidInputError
from tests import servers

PEOPLE = """
CREATE TABLE people (id int PRIMARY KEY, name text, born date, paid numeric, extra jsonb);
INSERT INTO people SELECT n, 'Name ' || n, '1970-01-01', 1.50, '{"tags": [1]}'
FROM generate_series(1, 2500) n;
CREATE FUNCTION tick() RETURNS int LANGUAGE sql VOLATILE AS
    'INSERT INTO people (id) VALUES (0) RETURNING 1';
"""


@pytest.fixture
def people(empty_url: str) -> str:
    servers.execute(empty_url, PEOPLE)
    return empty_url


def refused(url: str, query: str) -> str:
    with pytest.raises(InvalidInputError) as caught:
        for _ in open_table(url, query=query).batches():
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_of_a_query(people: str) -> None:
    table = open_table(people, query="SELECT *, '100%' AS share FROM people ORDER BY id;")
    assert table.columns == ("id", "name", "born", "paid", "extra", "share")
    assert table.count is None
    batches = list(table.batches(1000))
    assert [len(batch) for batch in batches] == [1000, 1000, 500]
    assert batches[0][0] == {
        "id": 1, "name": "Name 1", "born": "1970-01-01", "paid": "1.50", "extra": {"tags": [1]},
        "share": "100%",
    }  # fmt: skip
    assert next(table.batches(1)) == batches[0][:1], "it can be read again, and left half-read"


def test_a_query_without_rows(people: str) -> None:
    table = open_table(people, query="SELECT id, name FROM people WHERE id < 0")
    assert (table.columns, list(table.batches())) == (("id", "name"), [])


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM people",
        "WITH gone AS (DELETE FROM people RETURNING *) SELECT * FROM gone",
        "SELECT 1; DELETE FROM people",
        "SELECT 1; COMMIT; DELETE FROM people",
        "SELECT * FROM people FOR UPDATE",
        "SELECT tick()",
        "SELECT set_config('transaction_read_only', 'off', false), tick()",
        "COPY people TO STDOUT",
        "DROP TABLE people",
    ],
)
def test_a_query_that_writes_is_refused(people: str, query: str) -> None:
    assert "must be one SELECT" in refused(people, query)
    (count,) = next(open_table(people, query="SELECT count(*) FROM people").batches())
    assert count == {"count": 2500}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT nobody FROM people", 'column "nobody" does not exist'),
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT 1 / (id - 2000) FROM people ORDER BY id", "division by zero"),
        ("SELEC 1", "syntax error"),
        ("SELECT id, name AS id FROM people", "several columns called 'id'"),
        ("SELECT FROM people", "has no columns"),
    ],
)
def test_a_query_that_can_not_be_read(people: str, query: str, says: str) -> None:
    assert says in refused(people, query)


def test_a_url_needs_a_query(people: str) -> None:
    with pytest.raises(InvalidInputError, match="pass query="):
        open_table(people)
    with pytest.raises(InvalidInputError, match="no sheets"):
        open_table(people, query="SELECT 1", sheet="One")


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"127\.0\.0\.1:9") as caught:
        open_table("postgresql://me:secret@127.0.0.1:9/db", query="SELECT 1")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="can't be read"):
        open_table("postgresql://me:secret@[/db", query="SELECT 1")
