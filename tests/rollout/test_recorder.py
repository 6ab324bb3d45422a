"""Rows on their way to the database: in batches, in order, kept while it is away."""

from __future__ import annotations

import logging

import pytest

from llm_common.errors import DatabaseUnavailableError
from llm_common.rollout import recorder as recording
from llm_common.rollout.models import Exposure
from llm_common.rollout.recorder import BATCH, Recorder
from tests import children


class Book:
    """A database that writes down what it is sent; it can be away, or lose an answer."""

    identity = "book"

    def __init__(self) -> None:
        self.batches: list[dict] = []
        self.is_away = False
        self.loses_answers = 0

    async def call(self, function, payload):
        assert function == "llm_rollout_record"
        if self.is_away:
            raise DatabaseUnavailableError("it is away")
        self.batches.append(payload)
        if self.loses_answers:
            self.loses_answers -= 1
            raise DatabaseUnavailableError("no answer in time")
        return {"failures": 0}

    async def aclose(self) -> None: ...

    def sent(self, what: str) -> list[str]:
        key = {"exposures": "id", "outcomes": "exposure_id"}[what]
        return [row[key] for batch in self.batches for row in batch[what]]


async def nothing(failures: int) -> None: ...


def exposure(number: int) -> Exposure:
    return Exposure(str(number), f"unit-{number}", "new", "hash", 5000, True, 1)


def record(recorder: Recorder, number: int) -> None:
    recorder.exposed(exposure(number), "new")
    recorder.ended({"exposure_id": str(number)})


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def recorder(book: Book) -> Recorder:
    return Recorder(book, "test", "f", nothing)


async def test_no_outcome_is_there_before_its_exposure(book, recorder):
    for number in range(2 * BATCH + 10):
        record(recorder, number)
    await recorder.flush()
    exposed: set[str] = set()
    for batch in book.batches:
        assert max(len(batch["exposures"]), len(batch["outcomes"])) <= BATCH
        exposed |= {row["id"] for row in batch["exposures"]}
        assert {row["exposure_id"] for row in batch["outcomes"]} <= exposed
    assert len(book.sent("exposures")) == len(book.sent("outcomes")) == 2 * BATCH + 10


async def test_it_flushes_by_itself(book, recorder):
    record(recorder, 1)
    await children.until(lambda: book.sent("outcomes") == ["1"])


async def test_an_answer_that_is_lost_has_its_batch_sent_again_as_it_was(book, recorder):
    record(recorder, 1)
    book.loses_answers = 1
    with pytest.raises(DatabaseUnavailableError):
        await recorder.flush()
    record(recorder, 2)
    await recorder.flush()
    assert book.batches[0] == book.batches[1]
    assert book.sent("outcomes") == ["1", "1", "2"]


async def test_the_oldest_go_first_while_the_database_is_away(book, recorder, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "llm_common")
    monkeypatch.setattr(recording, "MOST_WAITING", 3)
    book.is_away = True
    for number in range(5):
        record(recorder, number)
    await children.until(lambda: "rollout.not_recorded" in caplog.text)
    book.is_away = False
    await recorder.aclose()
    assert book.sent("exposures") == book.sent("outcomes") == ["2", "3", "4"]


async def test_what_is_lost_at_the_end_is_said(book, recorder, caplog):
    caplog.set_level(logging.WARNING, "llm_common")
    book.is_away = True
    record(recorder, 1)
    await recorder.aclose()
    assert "rollout.not_recorded" in caplog.text
    assert "rows=2" in caplog.text
