"""What pruning leaves of saved article pages, beside what people marked as the article."""

from __future__ import annotations

import pytest

from llm_common.crawling import PageContent, extract
from scripts import extract_score
from scripts.extract_score import Article, Score
from tests.support import data_dir

FLOOR_F1 = 0.960
MOST_TOKENS = 0.12

Read = dict[str, tuple[Article, PageContent]]


@pytest.fixture(scope="module")
def read() -> Read:
    data_dir("articles")
    return {key: (a, extract(a.html, a.url)) for key, a in extract_score.articles().items()}


def test_the_articles_are_found(read: Read) -> None:
    assert len(read) == 181
    pairs = [(extract_score.plain_words(p.markdown), a.truth) for a, p in read.values()]
    assert extract_score.score(pairs).f1 >= FLOOR_F1


def test_markdown_takes_few_tokens(read: Read) -> None:
    pages = [(article.html, page.markdown) for article, page in read.values()]
    assert 0 < extract_score.token_share(pages) <= MOST_TOKENS


def test_the_full_text_has_nearly_every_word_of_the_articles(read: Read) -> None:
    pairs = [(page.text, article.truth) for article, page in read.values()]
    assert extract_score.score(pairs).recall > 0.96


def test_every_article_has_a_title_and_links(read: Read) -> None:
    assert [key for key, (_, page) in read.items() if not page.title or not page.links] == []


def test_the_score_is_the_benchmark_s() -> None:
    one, other = "a b c d e", "a b c d x"
    assert extract_score.score([(one, one)]) == Score(1, 1, 1)
    assert extract_score.score([(one, other), ("", "a b"), ("a b", "")]).f1 == pytest.approx(0.25)
    assert extract_score.plain_words("# T\n\n1. [a](http://x.y/z) b\n- c") == "T\n[a] b\nc"
