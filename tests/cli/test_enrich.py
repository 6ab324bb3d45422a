"""`llm-common enrich` and `llm-common review`, as a user runs them."""

from __future__ import annotations

import csv
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from llm_common.enrichment import open_table
from llm_common.testing import Hit, ProviderServer, Query
from tests.children import until
from tests.cli.command import Command
from tests.enrichment.world import NEVER, Model, World, make_world, serve

COUNT = 6
KEYS, COLUMNS = "name,state", "party:choice(Democratic|Republican),phone:phone,email:email"


@dataclass
class Place:
    """A folder with a table, a database, sites and providers."""

    folder: Path
    world: World
    providers: ProviderServer
    command: Command

    @property
    def table(self) -> Path:
        path = self.folder / "people.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["name", "state", "note"])
            writer.writeheader()
            writer.writerows({**row, "note": "=1+1"} for row in self.world.rows())
        return path

    def arguments(self, *more: str | Path) -> list[str | Path]:
        named = ["--keys", KEYS, "--columns", COLUMNS, "--provider", "openai"]
        using = ["--model", "gpt-4o-mini", "--engine", "serper", "--allow-network", "127.0.0.0/8"]
        using += ["--delay", "0"]
        return ["enrich", self.table, *named, *using, *more]


@asynccontextmanager
async def a_place(folder: Path, database_url: str, state_dir: Path) -> AsyncIterator[Place]:
    world = make_world(count=COUNT)
    model = Model(world.seed, NEVER)
    async with serve(world, model, slow_s=0) as served:

        def find(query: Query) -> list[Hit]:
            hits = world.engine.find(query)
            return [replace(hit, url=f"{served.sites}/{_path(hit.url)}") for hit in hits]

        async with ProviderServer(find, respond=model.respond) as providers:
            environment = {
                **providers.environment(),
                "DATABASE_URL": database_url,
                "LLM_COMMON_STATE_DIR": str(state_dir),
                "LLM_COMMON_PROJECT": "people",
            }
            yield Place(folder, world, providers, Command(environment))


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"


@pytest.fixture
async def place(tmp_path: Path, database_url: str, state_dir: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, database_url, state_dir) as found:
        yield found


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for batch in open_table(path).batches() for row in batch]


async def test_a_table_is_enriched_and_written(place: Place) -> None:
    out = place.folder / "out.xlsx"
    ended = await place.command(*place.arguments("-o", out, "--budget", "2.00", "--json"))
    assert ended.code == 0, ended.err
    said = ended.json
    assert (said["status"], said["rows"]["completed"], said["outcomes"]) == (
        "completed",
        COUNT,
        {"done": COUNT},
    )
    borne_out = said["cells"]["verified"] + said["cells"].get("repaired", 0)
    assert borne_out >= 2 * COUNT
    assert place.providers.invoice.total_usd == Decimal(said["cost_usd"])
    found = rows(out)
    assert [(row["name"], row["state"], row["note"]) for row in found] == [
        (row["name"], row["state"], "=1+1") for row in place.world.rows()
    ]
    parties = {row["name"]: row["party"] for row in found if row["party"]}
    for row in place.world.rows():
        true = place.world.truth(row, "party").value
        assert parties.get(row["name"], true) == true
    # The same command again pays for nothing and writes the same.
    before = len(place.providers.requests)
    again = await place.command(*place.arguments("-o", out, "--budget", "2.00", "--json"))
    assert again.json["job_id"] == said["job_id"]
    assert len(place.providers.requests) == before
    assert rows(out) == found


async def test_an_estimate_sends_nothing(place: Place) -> None:
    ended = await place.command(*place.arguments("--estimate", "--json"))
    assert (ended.json["rows"], ended.json["searches"]) == (COUNT, COUNT)
    assert float(ended.json["likely_usd"]) > 0
    shown = await place.command(*place.arguments("--dry-run"))
    assert f"{COUNT} rows, {COUNT} searches in the first round" in shown.out
    assert place.providers.requests == []
    assert not list(place.folder.glob("*.enriched.*"))


async def test_it_costs_money_only_if_somebody_says_so(place: Place) -> None:
    ended = await place.command(*place.arguments())
    assert ended.code == 2
    assert ended.complaint == (
        "llm-common: this costs money: pass --budget USD, or --yes to go without one"
    )
    assert place.providers.requests == []


async def test_a_pilot_and_what_persons_decide(place: Place) -> None:
    out = place.folder / "pilot.csv"
    ended = await place.command(*place.arguments("-o", out, "--pilot", "2", "--yes"))
    assert ended.code == 0, ended.err
    assert "written to" in ended.out
    assert len(rows(out)) == 2
    listed = await place.command("review", "list", "--json")
    assert listed.code == 0
    for one in listed.json:
        assert one["state"] == "open"
        rejected = await place.command("review", "reject", one["id"], "--by", "ann", "--json")
        assert (rejected.json["state"], rejected.json["by"]) == ("rejected", "ann")
    unknown = await place.command("review", "accept", "11111111-1111-1111-1111-111111111111")
    assert "has no review" in unknown.complaint


async def test_it_is_interrupted_and_goes_on(place: Place) -> None:
    out = place.folder / "out.csv"
    arguments = place.arguments("-o", out, "--yes")
    process = await place.command.start(*arguments)
    await until(lambda: len(place.providers.requests) >= 3)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from here" in err.decode()
    ended = await place.command(*arguments)
    assert ended.code == 0, ended.err
    assert len(rows(out)) == COUNT
    assert {row["enrichment status"] for row in rows(out)} == {"completed"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--keys", "nam,state"], "nam"),
        (["--keys", "name,state", "--columns", "phone:fone"], "column phone has no type 'fone'"),
        (["--keys", "name", "--columns", "name"], "named twice among keys and wanted columns"),
        (["--context", "legislators"], "write name=value"),
        (["--budget", "lots"], "--budget"),
        (["--rounds", "9"], "refine_rounds"),
        (["--allow-network", "here"], "write a network such as"),
        # Before anything is paid for.
        (["--out", "out.docx"], "'out.docx' does not say its format"),
        (["--out", "there/is/none.csv"], "make it first"),
        (["--evidence", "nowhere"], "'nowhere' is no placement"),
    ],
)
async def test_what_will_not_do(place: Place, options: list[str], complaint: str) -> None:
    ended = await place.command(*place.arguments("--yes"), *options)
    assert ended.code == 2
    assert complaint in ended.complaint
    assert place.providers.requests == []


async def test_a_file_that_is_none(place: Place) -> None:
    broken = place.folder / "broken.xlsx"
    broken.write_bytes(b"PK\x03\x04 not a workbook")
    ended = await place.command("enrich", broken, "--keys", "a", "--columns", "b", "--yes")
    assert ended.code == 2
    assert "broken.xlsx" in ended.complaint
