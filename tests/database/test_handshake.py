"""Library N works with schemas N and N-1, asks once, and says which side to update."""

from __future__ import annotations

from uuid import uuid4

import pytest

from llm_common.database import SCHEMA, handshake, schema_of
from llm_common.database.handshake import judge
from llm_common.errors import DatabaseUnavailableError, SchemaError


class Answers:
    """A database that knows one version."""

    def __init__(self, version: int) -> None:
        self.identity = f"fake {uuid4()}"
        self.version = version
        self.calls = 0

    async def call(self, function, payload):
        self.calls += 1
        if self.version < 0:
            raise DatabaseUnavailableError("away")
        return {"version": self.version}

    async def aclose(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(("found", "known"), [(5, 5), (4, 5)])
def test_this_schema_and_the_one_before_are_fine(found, known):
    judge(found, known)


def test_an_older_schema_is_to_be_migrated():
    with pytest.raises(SchemaError, match="has schema 3, this library needs 5: run `llm-common"):
        judge(3, 5)


def test_a_newer_schema_needs_a_newer_library():
    with pytest.raises(SchemaError, match="has schema 6, this library knows 5: update llm-common"):
        judge(6, 5)


async def test_a_good_answer_is_remembered():
    database = Answers(SCHEMA)
    await handshake(database)
    await handshake(database)
    assert database.calls == 1


async def test_a_bad_answer_is_asked_again():
    database = Answers(SCHEMA + 1)
    for _ in range(2):
        with pytest.raises(SchemaError):
            await handshake(database)
    database.version = -1
    with pytest.raises(DatabaseUnavailableError):
        await handshake(database)
    database.version = SCHEMA
    await handshake(database)
    assert database.calls == 4


async def test_the_version_that_was_found_is_told():
    database = Answers(SCHEMA - 1)
    assert await schema_of(database) == SCHEMA - 1
    assert await schema_of(database) == SCHEMA - 1
    assert database.calls == 1
