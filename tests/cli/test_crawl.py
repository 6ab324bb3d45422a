"""`llm-common crawl`, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.command import TIMEOUT_S, Command
from tests.crawling.site import BigSite, big_site

LOCAL = ("--allow-network", "127.0.0.0/8", "--fetcher", "http")
QUICK = (*LOCAL, "--delay", "0")


@pytest.fixture
async def site() -> AsyncIterator[BigSite]:
    async with big_site(60) as running:
        yield running


async def test_a_site_becomes_markdown(cli: Command, site: BigSite, tmp_path: Path) -> None:
    arguments = (f"{site.url}/page/0", *QUICK, "--max-pages", "12", "--out", tmp_path / "pages")
    ended = await cli("crawl", *arguments, "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["state"], ended.json["pages"]) == ("completed", 12)
    listed = (tmp_path / "pages" / "pages.jsonl").read_text()
    rows = [json.loads(line) for line in listed.splitlines()]
    assert rows == ended.json["urls"]
    files = {row["file"]: row for row in rows if row["file"]}
    assert {path.name for path in (tmp_path / "pages").glob("*.md")} == set(files)
    assert len(files) == 12
    for name, row in files.items():
        assert row["title"].split()[-1] in (tmp_path / "pages" / name).read_text()
        assert row["reason"] == "fetched"
    # An id goes on with what is stored, and may go further.
    again = await cli("crawl", "--resume", ended.json["crawl_id"], *LOCAL, "--max-pages", "15")
    assert again.code == 0, again.err
    assert "15 pages, completed" in again.out
    in_tree = {path: number for path, number in site.asked.items() if path in site.tree}
    assert set(in_tree.values()) == {1}
    assert len(in_tree) >= 14


async def test_the_word_may_be_written(cli: Command, site: BigSite) -> None:
    ended = await cli("crawl", "site", f"{site.url}/slow", *QUICK)
    assert ended.code == 0, ended.err
    assert "1 pages, completed" in ended.out


async def test_ctrl_c_says_how_to_go_on(cli: Command, site: BigSite, tmp_path: Path) -> None:
    process = await cli.start("crawl", f"{site.url}/", *LOCAL, "--delay", "0.05")
    while site.asked.total() < 8:
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert process.returncode == 130, said.decode()
    found = re.search(r"interrupted; llm-common crawl --resume ([\w-]{36}) goes on", said.decode())
    assert found, said.decode()
    ended = await cli("crawl", "--resume", found[1], *LOCAL, "--out", tmp_path, "--json")
    assert (ended.json["state"], ended.json["pages"]) == ("completed", 100)
    assert sum(bool(row["file"]) for row in ended.json["urls"]) >= 60


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("example.org",), "'example.org' is no web page: write http:// or https:// before it"),
        (("http://127.0.0.1:1/",), "it is at a private address; allow that network"),
        (("http://127.0.0.1:1/", *LOCAL, "--delay", "-1"), "--per-host-delay-s Input should be"),
        (("http://a.example/", "--strategy", "best_first"), "best_first needs keywords"),
        (("http://a.example/", "--fetcher", "ftp"), "no fetcher 'ftp'"),
        (("http://a.example/", "--allow-network", "home"), "write a network such as 10.1.0.0/16"),
        (("--resume", "7"), "'7' is no id of a crawl"),
        (("--resume", "00000000-0000-0000-0000-000000000000"), "project local has no crawl"),
        (("--resume", "00000000-0000-0000-0000-000000000000", "--delay", "3"), "only --max-pages"),
        (("--max-pages", "3"), "name a URL to crawl"),
    ],
)
async def test_one_clear_sentence(cli: Command, arguments: tuple[str, ...], complaint: str) -> None:
    ended = await cli("crawl", *arguments, "--json")
    assert ended.code == 2
    assert complaint in ended.complaint
