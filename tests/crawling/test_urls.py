"""One text per URL."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.crawling.config import CrawlConfig
from llm_common.crawling.relevance import relevance
from llm_common.crawling.scope import is_trap, scope_of, shape_of
from llm_common.crawling.urls import TRACKING, normalize_url, registered_domain, url_key
from llm_common.errors import InvalidInputError


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://example.org", "http://example.org/"),
        ("HTTP://Example.ORG:80/", "http://example.org/"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("https://example.org:80/a", "https://example.org:80/a"),
        ("http://example.org./a", "http://example.org/a"),
        ("http://user:secret@example.org/a", "http://example.org/a"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("http://example.org/a?", "http://example.org/a"),
        ("http://example.org/a/../b/./c", "http://example.org/b/c"),
        ("http://example.org/../../a/..", "http://example.org/"),
        ("http://example.org/a/b/.", "http://example.org/a/b/"),
        ("http://example.org/a//b", "http://example.org/a//b"),
        ("http://example.org/a/", "http://example.org/a/"),
        ("http://example.org/%7euser/%c3%a9", "http://example.org/~user/%C3%A9"),
        ("http://example.org/caf\u00e9 au lait", "http://example.org/caf%C3%A9%20au%20lait"),
        ("http://example.org/100%", "http://example.org/100%25"),
        ("http://example.org/a%2Fb", "http://example.org/a%2Fb"),
        ("http://B\u00fccher.example/", "http://xn--bcher-kva.example/"),
        ("http://fa\u00df.de/", "http://xn--fa-hia.de/"),
        ("http://my_host.example/", "http://my_host.example/"),
        ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ("http://example.org/?b=2&a=1", "http://example.org/?b=2&a=1"),
        ("http://example.org/?a=1&&b=2&", "http://example.org/?a=1&b=2"),
        ("http://example.org/?q=a+b&r=a%20b", "http://example.org/?q=a+b&r=a%20b"),
        ("http://example.org/?utm_source=x", "http://example.org/?utm_source=x"),
        ("http://example.org/a;jsessionid=1F?b=1", "http://example.org/a?b=1"),
        ("http://example.org/?PHPSESSID=1f&b=1", "http://example.org/?b=1"),
        (" http://example.org/a\n/b ", "http://example.org/a/b"),
    ],
)
def test_what_differs_in_spelling_is_the_same(url: str, normal: str) -> None:
    assert normalize_url(url) == normal
    assert normalize_url(normal) == normal


def test_tracking_parameters_go_where_they_are_named() -> None:
    url = "http://example.org/a?UTM_Source=x&id=1&fbclid=2"
    assert normalize_url(url, drop=TRACKING) == "http://example.org/a?id=1"


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "/a", "mailto:a@example.org", "javascript:void(0)", "http://"),
        *("http:///a", "http://a..b/", "http://exa mple.org/", "http://[::1/", "http://a:99999/"),
        "ftp://a/b",
    ],
)
def test_what_is_no_page_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(InvalidInputError, match="write"):
        normalize_url(url)


@given(
    st.text(min_size=0, max_size=40),
    st.text(alphabet="abc%&=+?;/ \u00e9", max_size=30),
)
def test_normal_is_normal(path: str, query: str) -> None:
    once = normalize_url(f"http://example.org/{path.replace('?', '').replace('#', '')}?{query}")
    assert normalize_url(once) == once
    assert once.isascii()
    assert not urlsplit(once).fragment
    assert url_key(once) == url_key(normalize_url(once))


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.co.uk", "example.co.uk"),
        ("a.b.example.org:8080", "example.org"),
        ("alice.github.io", "alice.github.io"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_the_registered_domain(host: str, domain: str) -> None:
    assert registered_domain(host) == domain


@pytest.mark.parametrize(
    ("path", "trap"),
    [
        ("/a/b/c", False),
        ("/2024/01/01/01", False),
        ("/a/b/a/b/a/b/a", True),
        ("/x/x/x/x", True),
        ("/" + "/".join(map(str, range(20))), False),
        ("/" + "/".join(map(str, range(21))), True),
        ("/" + "a" * 2_000, True),
    ],
)
def test_traps_by_their_path(path: str, trap: bool) -> None:
    assert is_trap(f"http://example.org{path}") is trap


@pytest.mark.parametrize(
    ("url", "other", "alike"),
    [
        ("http://a/list?page=1&by=x", "http://a/list?by=y&page=2", True),
        ("http://a/list?page=1", "http://a/other?page=1", False),
        ("http://a/calendar/2024/01", "http://a/calendar/2031/12/", True),
        ("http://a/events/2024-01-31", "http://a/events/2024-02-01", True),
        ("http://a/day/2024-01-31?view=1", "http://a/day/2024-02-01?view=2", True),
    ],
)
def test_what_is_alike_has_one_shape(url: str, other: str, alike: bool) -> None:
    assert shape_of(url) is not None
    assert (shape_of(url) == shape_of(other)) is alike


@pytest.mark.parametrize("path", ["/article/12345", "/2024/01/31/the-news", "/room/1999", "/"])
def test_ordinary_pages_have_no_shape(path: str) -> None:
    assert shape_of(f"http://example.org{path}") is None


@pytest.mark.parametrize(
    ("config", "inside", "outside"),
    [
        ({}, "http://www.example.org/a", "http://blog.example.org/"),
        ({}, "https://example.org/a", "http://example.org:8080/"),
        ({"scope": "domain"}, "http://blog.example.org/", "http://example.com/"),
        ({"hosts": ("example.com",)}, "http://example.com/", "http://a.example.com/"),
        ({"include": ("/news/",)}, "http://example.org/news/1", "http://example.org/old"),
        ({"exclude": (r"\.pdf$",)}, "http://example.org/a", "http://example.org/a.pdf"),
    ],
)
def test_the_scope_of_a_crawl(config: dict[str, object], inside: str, outside: str) -> None:
    scope = scope_of(["http://example.org/"], CrawlConfig.model_validate(config))
    assert scope.holds(inside)
    assert not scope.holds(outside)


@pytest.mark.parametrize(
    ("url", "text", "keywords", "score"),
    [
        ("http://a/contact", "Contact us", ["contact"], 1),
        ("http://a/x", "Our contacts", ["contact"], 2 / 3),
        ("http://a/contact?x=1", "here", ["contact"], 1 / 3),
        ("http://contact/", "here", ["contact"], 0),
        ("http://a/team", "The team", ["contact", "team"], 1 / 2),
        ("http://a/%C3%BCber-uns", "", ["\u00fcber uns"], 1 / 3),
        ("http://a/uber-uns", "", ["\u00dcber uns"], 1 / 3),
        ("http://a/contact", "Contact", [], 0),
    ],
)
def test_relevance_is_what_its_formula_says(url, text, keywords, score) -> None:
    assert relevance(url, text, keywords) == pytest.approx(score)
