"""`llm-common crawl ab`: real pages by both arms, and what can't be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_common.cli.ab_arms import Reading
from llm_common.cli.ab_score import Asked, scored
from llm_common.crawling.chromium import executable
from llm_common.crawling.survival import same, survives
from llm_common.crawling.tokens import count_tokens
from llm_common.pricing import price_of
from tests.cli.command import Command
from tests.support import data_dir, skip_or_fail

ARMS = ["http, full text", "http, markdown", "crawl4ai, raw markdown", "crawl4ai, fit markdown"]


@pytest.mark.web
async def test_real_pages_by_both_arms(cli: Command, tmp_path: Path) -> None:
    folder = data_dir("contact_pages")
    if executable() is None:
        skip_or_fail("there is no Chromium on this machine")
    ended = await cli(
        *("crawl", "ab", "--truth", folder / "truth.jsonl", "--pages", folder, "--limit", "3"),
        *("--model", "offline/extractive", "--budget", "1", "--out", tmp_path / "ab", "--json"),
    )
    assert ended.code == 0, ended.err
    assert [row["arm"] for row in ended.json] == ARMS
    full, pruned = ended.json[0], ended.json[1]
    assert full["kept"] == full["of_values"] > 10
    assert pruned["tokens"] < full["tokens"]
    assert all(row["tokens"] and row["seconds"] > 0 for row in ended.json)
    assert all(float(row["cost_usd"]) > 0 for row in ended.json)
    table = (tmp_path / "ab" / "ab.md").read_text()
    assert all(f"| {arm} |" in table for arm in ARMS)
    assert "right answers" in table
    assert json.loads((tmp_path / "ab" / "ab.json").read_text()) == ended.json
    assert (tmp_path / "ab" / "ab.png").read_bytes().startswith(b"\x89PNG")
    costs = await cli("costs", "--by", "step", "--json")
    assert [row["key"] for row in costs.json["rows"]] == ["crawl_ab"]


@pytest.mark.parametrize(
    ("truth", "more", "complaint"),
    [
        (None, (), "can't be read as text"),
        ("", (), "has no pages"),
        ('{"page": "a.html"}\nnonsense', (), "line 2 of"),
        ('{"tel": ["1"]}', (), "line 1 of"),
        ('{"page": "a.html", "tel": 7}', (), "line 1 of"),
        ('{"page": "a.html"}', (), "is no URL: name the folder with --pages"),
        ('{"page": "a.html"}', ("--pages", "."), "not there"),
        ('{"page": "a.html"}', ("--limit", "0"), "--limit must be 1 or more"),
    ],
)
async def test_what_can_not_be_compared(
    cli: Command, tmp_path: Path, truth: str | None, more: tuple[str, ...], complaint: str
) -> None:
    file = tmp_path / "truth.jsonl"
    if truth is not None:
        file.write_text(truth)
    ended = await cli("crawl", "ab", "--truth", file, "--out", tmp_path / "ab", *more)
    assert ended.code == 2
    assert complaint in ended.complaint


def test_scores() -> None:
    truth = {"a": {"tel": ["555-0100"], "org": ["The Fund", "Nobody"]}, "b": {"tel": ["555-0199"]}}
    readings = [
        Reading("x", "a", "Call 555 0100, the  fund", 0.1),
        Reading("x", "b", "nothing", 0.3),
    ]
    asked = {"x": [Asked({"tel": ["5550100", "1"]}, None), Asked({"tel": []}, None)]}
    price = price_of("openai", "gpt-4o-mini")
    assert price is not None
    (row,) = scored(readings, truth, price, {})
    assert (row.fields, row.of_fields, row.kept, row.of_values) == (2, 3, 2, 4)
    assert row.tokens == sum(count_tokens(reading.text) for reading in readings)
    assert row.cost_usd == row.tokens * price.input
    assert row.seconds == pytest.approx(0.2)
    (row,) = scored(readings, truth, price, asked)
    assert (row.right, row.said, row.cost_usd) == (1, 2, None)
    assert scored(readings, truth, None, {})[0].cost_usd is None


@pytest.mark.parametrize(
    ("kind", "value", "text", "held"),
    [
        ("tel", "(214)-670-5111", "Call 214.670.5111 now", True),
        ("tel", "214 670 5111", "214 670 51 12", False),
        ("tel", "1-800-FLOWERS", "1 800 flowers", True),
        ("tel", "214 670 5111", "214 a 670 b 5111", False),
        ("tel", "", "anything", False),
        ("email", "info (at) host", "info  (at)\nhost dot org", True),
        ("email", "info@host.org", "inf@host.org", False),
        ("email", "Info@Host.org", "write to info@host.org.", True),
        ("org", "The  Fund", "by the\nfund", True),
        ("org", " ", "anything", False),
    ],
)
def test_what_survives(kind: str, value: str, text: str, held: bool) -> None:
    assert survives(kind, value, text) is held


def test_what_is_the_same() -> None:
    assert same("tel", "(555) 0100", "5550100")
    assert not same("tel", "", "")
    assert same("org", "The Fund", "the  fund")
    assert not same("org", "The Fund", "A Fund")
