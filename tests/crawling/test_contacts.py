"""The telephone numbers and e-mail addresses that people marked survive in the full text."""

from __future__ import annotations

import pytest

from llm_common.crawling import PageContent, extract
from llm_common.crawling.survival import survives
from scripts import extract_score
from scripts.extract_score import ContactPage
from tests.support import data_dir

FLOOR = 0.995
MOST_TOKENS = 0.12

Read = list[tuple[ContactPage, PageContent]]


@pytest.fixture(scope="module")
def read() -> Read:
    data_dir("contact_pages")
    return [(page, extract(page.html)) for page in extract_score.contact_pages().values()]


def test_contacts_survive(read: Read) -> None:
    asked = [(k, v, page.text) for contact, page in read for k, v in contact.contacts()]
    assert len(asked) > 800
    held = sum(survives(*each) for each in asked)
    assert held / len(asked) >= FLOOR


def test_markdown_takes_few_tokens(read: Read) -> None:
    share = extract_score.token_share([(contact.html, page.markdown) for contact, page in read])
    assert 0 < share <= MOST_TOKENS


def test_every_page_has_both_texts(read: Read) -> None:
    assert [contact.truth["page"] for contact, p in read if not (p.text and p.markdown)] == []
