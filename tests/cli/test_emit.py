"""`migrate emit`: files that other tools apply, and that do what `migrate up` does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llm_common.database.migrations import read, up
from tests.cli.command import Command
from tests.servers import Server

FILES = [file.file for file in read()]


@pytest.fixture
def empty_cli(empty_url: str, state: Path) -> Command:
    """The command with a database without anything in it."""
    return Command({"DATABASE_URL": empty_url, "LLM_COMMON_STATE_DIR": str(state)})


def shell(server: Server, url: str, line: str) -> None:
    """Run a line as a user pastes it."""
    environment = {"PATH": f"{server.programs}:/usr/bin:/bin", "DATABASE_URL": url}
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def psql(server: Server, url: str, *files: Path) -> None:
    """Run files one by one, as a tool does that knows nothing of them."""
    for file in files:
        shell(server, url, f'psql -q "$DATABASE_URL" -v ON_ERROR_STOP=1 -f "{file}"')


async def fresh(server: Server) -> str:
    """Return the dump of a database that `migrate up` made."""
    with server.database() as url:
        await up(url)
        return server.dump(url)


async def states(cli: Command) -> set[str]:
    return {row["state"] for row in (await cli("migrate", "status", "--json")).json}


async def test_the_line_for_psql_does_what_up_does(
    empty_cli: Command, server: Server, empty_url: str, tmp_path: Path
) -> None:
    empty = server.dump(empty_url)
    folder = tmp_path / "our migrations"
    written = await empty_cli("migrate", "emit", "--for", "psql", "--to", folder, "--json")
    assert written.code == 0, written.err
    paths = [Path(path) for path in written.json["written"]]
    assert [path.name for path in paths if path.parent == folder] == FILES
    assert [path.name for path in paths if path.parent == folder / "rollback"] == FILES
    assert all(path.is_file() for path in paths)
    assert await states(empty_cli) == {"pending"}

    shell(server, empty_url, written.json["apply"])
    assert server.dump(empty_url) == await fresh(server)
    assert await states(empty_cli) == {"applied"}
    assert (await empty_cli("migrate", "verify")).code == 0
    assert "nothing to apply" in (await empty_cli("migrate", "up")).out

    psql(server, empty_url, *sorted((folder / "rollback").iterdir(), reverse=True))
    assert server.dump(empty_url) == empty
    assert await states(empty_cli) == {"pending"}


async def test_files_for_supabase_do_what_up_does(
    empty_cli: Command, server: Server, empty_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "supabase" / "migrations"
    told = await empty_cli("migrate", "emit", "--for", "supabase", "--to", folder)
    assert told.code == 0, told.err
    assert "supabase db push" in told.out
    # A rollback in that folder would be applied with the rest.
    assert sorted(path.name for path in folder.iterdir()) == FILES
    psql(server, empty_url, *sorted(folder.iterdir()))
    assert server.dump(empty_url) == await fresh(server)
    assert await states(empty_cli) == {"applied"}
    assert (await empty_cli("migrate", "verify")).code == 0
    assert (await empty_cli("migrate", "down", "--all", "--yes")).code == 0
    assert await states(empty_cli) == {"pending"}


async def test_half_of_them_applied_elsewhere_is_continued(
    empty_cli: Command, server: Server, empty_url: str, tmp_path: Path
) -> None:
    await empty_cli("migrate", "emit", "--for", "supabase", "--to", tmp_path / "out")
    half = len(FILES) // 2
    psql(server, empty_url, *(tmp_path / "out" / name for name in FILES[:half]))
    rows = (await empty_cli("migrate", "status", "--json")).json
    expected = ["applied"] * half + ["pending"] * (len(FILES) - half)
    assert [row["state"] for row in rows] == expected
    assert (await empty_cli("migrate", "up")).code == 0
    assert server.dump(empty_url) == await fresh(server)


async def test_only_what_is_new_is_written_and_applied(cli: Command, tmp_path: Path) -> None:
    async def emit() -> str:
        ended = await cli("migrate", "emit", "--for", "psql", "--to", tmp_path)
        assert ended.code == 0, ended.err
        return ended.out

    first = await emit()
    assert first.count("wrote ") == 2 * len(FILES)
    assert "the newest first" in first
    assert "nothing to write" in await emit()
    (tmp_path / FILES[-1]).unlink()
    again = await emit()
    assert again.count("wrote ") == 1
    assert again.count(" -f ") == 1
    nothing = await cli("migrate", "emit", "--for", "psql", "--to", tmp_path, "--json")
    assert (nothing.json["written"], nothing.json["apply"]) == ([], None)


@pytest.mark.parametrize(
    ("tool", "inside", "complaint"),
    [
        ("flyway", "new", "no files for 'flyway': write --for supabase or --for psql"),
        ("psql", "a_file", "a_file is no folder to write to"),
        ("supabase", "a_file/migrations", "a_file/migrations is no folder to write to"),
        ("psql", "mine", f"{FILES[0]} is there and differs: move it away, then emit again"),
        ("psql", "in_the_way", "rollback is no folder to write to"),
    ],
)
async def test_one_clear_sentence_and_nothing_written(
    cli: Command, tmp_path: Path, tool: str, inside: str, complaint: str
) -> None:
    (tmp_path / "a_file").write_text("a file")
    for folder, name in (("mine", FILES[0]), ("in_the_way", "rollback")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("-- the host's own")
    before = sorted(tmp_path.rglob("*"))
    ended = await cli("migrate", "emit", "--for", tool, "--to", tmp_path / inside)
    assert ended.code == 2
    assert complaint in ended.complaint
    assert sorted(tmp_path.rglob("*")) == before
