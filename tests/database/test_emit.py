"""Migrations in the host's own folder do what the runner does; and which files are refused."""

from __future__ import annotations

import subprocess

import pytest

from llm_common.database.migrations import emit, read, status, up, verify
from llm_common.errors import MigrationError
from tests.servers import execute


def psql(server, url, *files):
    for file in files:
        command = [server.programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, url]
        subprocess.run(command, check=True, capture_output=True)


async def test_psql_does_what_the_runner_does(server, empty_url, tmp_path):
    empty = server.dump(empty_url)
    written = emit(tmp_path, rollbacks=True)
    forward = sorted(path for path in written if path.parent == tmp_path)
    back = sorted((path for path in written if path not in forward), reverse=True)
    assert [path.name for path in forward] == [file.file for file in read()]
    psql(server, empty_url, *forward)
    assert {row.state for row in await status(empty_url)} == {"applied"}
    assert await verify(empty_url) == []
    with server.database() as other:
        await up(other)
        assert server.dump(empty_url) == server.dump(other)
    psql(server, empty_url, *forward)
    psql(server, empty_url, *back)
    assert server.dump(empty_url) == empty


async def test_another_schema_is_named_in_the_files(server, empty_url, tmp_path):
    execute(empty_url, 'CREATE SCHEMA "tenant ""one"""')
    psql(server, empty_url, *emit(tmp_path, 'tenant "one"'))
    assert await verify(empty_url, 'tenant "one"') == []


def test_only_new_files_are_written(tmp_path):
    emit(tmp_path, migrations=read()[:1])
    assert not (tmp_path / "rollback").exists()
    assert emit(tmp_path) == [tmp_path / file.file for file in read()[1:]]
    assert emit(tmp_path) == []


def test_a_file_that_differs_is_left_alone(tmp_path):
    last = tmp_path / read()[-1].file
    last.write_text("-- the host's")
    with pytest.raises(MigrationError, match=r"is there and differs"):
        emit(tmp_path)
    assert list(tmp_path.iterdir()) == [last]


def test_a_misnamed_file_is_refused(tmp_path):
    (tmp_path / "1_first.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="not named"):
        read(tmp_path)


def test_a_file_without_a_way_back_is_refused(tmp_path):
    (tmp_path / "20261121000000_first.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="has no rollback"):
        read(tmp_path)
