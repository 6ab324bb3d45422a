"""What a page says, in both texts, facts, links and dates; and no bytes that break it."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from urllib.parse import urldefrag, urljoin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_common.crawling import Fetched, Link, PageContent, Reason, extract, read_page
from llm_common.crawling.about import iso_date
from llm_common.crawling.extract import MOST_BYTES
from llm_common.crawling.links import absolute

URL = "https://example.org/dir/page.html?q=1#top"


def text_of(body: str) -> str:
    return extract(f"<html><body>{body}</body></html>", URL).text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>one</p><p>two <b>th</b>ree</p>", "one\ntwo three"),
        ("a<br>b<wbr>c&nbsp;d&shy;e", "a\nbc de"),
        ("<table><tr><td>Tel<td>555<tr><td><p>x</p></table>", "Tel | 555\nx"),
        ("<pre>a\n  b</pre>", "a\nb"),
        ("<script>x</script><style>y</style><template>z</template>seen", "seen"),
        ("<nav>menu</nav><main>text</main><footer>foot</footer>", "menu\ntext\nfoot"),
        ('<a href="tel:+1-212-673-5000">Call us</a>', "Call us (tel: +1-212-673-5000)"),
        ('<a href="tel:+12126735000">+1 (212) 673-5000</a>', "+1 (212) 673-5000"),
        ('<a href="mailto:a%40b.org?subject=x">Write</a>', "Write (mailto: a@b.org)"),
        ('<a href="mailto:a@b.org">A@B.org</a>', "A@B.org"),
        ('<a href="https://wa.me/4915112345678">Chat</a>', "Chat (whatsapp: 4915112345678)"),
        ('<img alt="Call 214 670 5111">', "Call 214 670 5111"),
        ('<img alt="a red house">x', "x"),
        ('<input placeholder="you@firm.org">', "you@firm.org"),
        ('<a data-cfemail="543514367a3b2633">[protected]</a>', "a@b.org"),
        ('<a href="/cdn-cgi/l/email-protection#543514367a3b2633">M</a>', "M (mailto: a@b.org)"),
        ('<a href="/cdn-cgi/l/email-protection#zzzzzz">Mail</a>', "Mail"),
        ("<noscript>Phone 1</noscript>", "Phone 1"),
    ],
)  # fmt: skip
def test_full_text(body: str, text: str) -> None:
    assert text_of(body) == text


def test_the_title_is_in_the_full_text_once() -> None:
    page = extract("<title>Joe's  Pizza</title><body><p>Open</p></body>")
    assert (page.title, page.text) == ("Joe's Pizza", "Joe's Pizza\nOpen")
    assert extract("<title>Joe</title><body><h1>Joe</h1></body>").text == "Joe"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ('{"@type": "Organization", "telephone": "+1 212 673 5000", "url": "https://x.org"}',
         ["telephone: +1 212 673 5000"]),
        ('{"name": "shown", "address": {"postalCode": "75201", "addressRegion": "TX"}}',
         ["postalCode: 75201", "addressRegion: TX"]),
        ('{"@graph": [{"email": "a@b.org"}, {"email": "a@b.org"}]}', ["email: a@b.org"]),
        ('<!-- {"email": "a@b.org",} -->', ["email: a@b.org"]),
        ('{"email": "a@b.org"}\n{"faxNumber": "123 456 789"};',
         ["email: a@b.org", "faxNumber: 123 456 789"]),
        ('{"email": "a@b.org", "x": broken', ["email: a@b.org"]),
        ('{"telephone": "555\\u002d1234567"', ["telephone: 555-1234567"]),
        ('{"image": {"name": "logo.png"}, "logo": "x", "width": 3}', []),
        ("[" * 100_000, []),
        ("", []),
    ],
)  # fmt: skip
def test_json_ld_as_facts(source: str, told: list[str]) -> None:
    script = f'<script type="application/ld+json">{source}</script>'
    assert text_of(f"<p>shown, next</p>{script}").splitlines() == ["shown, next", *told]


def test_a_fact_that_is_shown_is_not_told_again() -> None:
    source = '{"telephone": "+1 (212) 673-5000", "addressCountry": "US"}'
    script = f'<script type="application/ld+json">{source}</script>'
    assert text_of(f"<p>Call +1.212.673.5000 in the US</p>{script}").count("\n") == 0


def test_microdata_and_meta_tags_as_facts() -> None:
    head = (
        '<meta property="og:phone_number" content="0123 456789"><meta name="viewport" content="w">'
    )
    body = (
        '<div itemscope><meta itemprop="email" content="a@b.org"><b itemprop="name">Joe</b></div>'
    )
    page = extract(f"<head>{head}</head><body>{body}</body>")
    assert page.text.splitlines() == ["Joe", "phone_number: 0123 456789", "email: a@b.org"]


def test_links() -> None:
    page = extract(
        '<a href="a#x"></a><a href="a#y">words</a><a href="/b" rel="nofollow"><img alt="pic"></a>'
        '<a href="javascript:x()">j</a><a href="mailto:a@b">m</a><a href="http://[bad">bad</a>'
        '<a href="//other.org/c\n d">c</a><a>none</a><area href="?p=2">',
        URL,
    )
    assert page.links == (
        Link(url="https://example.org/dir/a", text="words"),
        Link(url="https://example.org/b", text="pic", rel="nofollow"),
        Link(url="https://other.org/c d", text="c"),
        Link(url="https://example.org/dir/page.html?p=2"),
    )


def test_base_and_canonical() -> None:
    page = extract(
        '<head><base href="/root/"><link rel="canonical" href="here"></head><a href="x">x</a>', URL
    )
    assert page.links[0].url == "https://example.org/root/x"
    assert page.canonical_url == "https://example.org/root/here"
    assert extract('<meta property="og:url" content="https://o.org/">x').canonical_url == (
        "https://o.org/"
    )


@pytest.mark.parametrize(
    ("head", "language"),
    [
        ('<html lang="en-US">x', "en-US"),
        ('<meta http-equiv="Content-Language" content="de, en">x', "de"),
        ('<meta property="og:locale" content="pt_BR">x', "pt-BR"),
        ('<html lang="???">x', None),
    ],
)
def test_language(head: str, language: str | None) -> None:
    assert extract(head).language == language


def test_title_falls_back() -> None:
    assert extract('<meta property="og:title" content="Shared"><h1>H</h1>').title == "Shared"
    assert extract("<svg><title>icon</title></svg><h1>Heading</h1>").title == "Heading"


def test_dates() -> None:
    ld = '<script type="application/ld+json">{"datePublished": "2019-11-18T10:00:00Z"}</script>'
    meta = '<meta property="article:modified_time" content="2019/11/19 08:00">'
    page = extract(f"<head>{ld}{meta}</head><p>x</p>")
    assert (page.published, page.modified) == ("2019-11-18T10:00:00+00:00", "2019-11-19")
    assert extract('<article><time datetime="2020-02-30">?</time></article>').published is None
    assert extract('<article><time datetime="2020-02-03">?</time></article>').published == (
        "2020-02-03"
    )


@pytest.mark.parametrize(
    ("said", "iso"),
    [
        ("2019-11-18", "2019-11-18"),
        ("Mon, 18 Nov 2019 10:00:00 GMT", "2019-11-18T10:00:00+00:00"),
        ("2019.1.8", "2019-01-08"),
        ("yesterday", None),
        ("", None),
        ("99999-99-99", None),
    ],
)
def test_iso_dates(said: str, iso: str | None) -> None:
    assert iso_date(said) == iso


def test_markdown_is_pruned_and_has_structure() -> None:
    paragraph = "The council met on Monday and agreed, after long debate, on <b>the new</b> plan. "
    page = extract(
        "<html><body><nav><a href=/a>Menu</a> <a href=/b>Login</a></nav><article><h1>Plan</h1>"
        f"<p>{paragraph * 3}</p><h2>Why</h2><ul><li>{paragraph}</li><li>{paragraph}</li></ul>"
        f"<p>{paragraph * 4}</p></article><footer>Imprint</footer></body></html>"
    )
    assert "## Why" in page.markdown
    assert "- The council met" in page.markdown
    assert "**" not in page.markdown
    assert not {"Menu", "Login", "Imprint"} & set(page.markdown.split())
    assert {"Menu", "Login", "Imprint"} <= set(page.text.split())


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        (b"", Reason.EMPTY),
        (" \n\t", Reason.EMPTY),
        ("<!-- only this --><script>x</script>", Reason.EMPTY),
        (b"\0" * 500, Reason.UNSUPPORTED_TYPE),
        (random.Random(7).randbytes(5000), Reason.UNSUPPORTED_TYPE),
        (b"%PDF-1.4 ...", Reason.UNSUPPORTED_TYPE),
        (b"<p>" + b"x" * MOST_BYTES, Reason.TOO_LARGE),
        ("<p>" + "ж" * (MOST_BYTES // 2), Reason.TOO_LARGE),
    ],
    ids=["nothing", "blank", "unseen", "nul", "random", "pdf", "large", "large in UTF-8"],
)
def test_pages_without_text(html: bytes | str, reason: Reason) -> None:
    assert extract(html, URL) == PageContent(url=URL, reason=reason)


@pytest.mark.parametrize("tag", ["div", "font", "a", "svg", "li", "table", "b", "x-y"])
def test_deep_nesting_keeps_the_words(tag: str) -> None:
    page = extract(f"<body>start {f'<{tag}>' * 100_000} <p>inner</p> {f'</{tag}>' * 100_000} end")
    assert page.reason is Reason.FETCHED
    assert page.text.split() == ["start", "inner", "end"]


_BASES = ("http://e.org/a/b", "https://e.org:8443", "http://E.org/x", "", "http://u@e.org/x")
_PARTS = (
    "/",
    "//",
    "a",
    "b.c",
    "..",
    ".",
    "?",
    "=",
    "&",
    "%20",
    ":",
    ";",
    "#",
    "@",
    "http://h.x:80",
)


@settings(max_examples=500)
@given(
    st.sampled_from(_BASES),
    st.lists(st.sampled_from(_PARTS), max_size=6).map("".join),
)
def test_a_plain_link_is_what_joining_makes_of_it(base: str, href: str) -> None:
    try:
        joined = urldefrag(urljoin(base, href.strip())).url
    except ValueError:
        joined = ""
    is_page = joined.startswith(("http://", "https://"))
    assert absolute(base, href) == (joined if is_page else None)


def test_unclosed_tags_keep_their_links() -> None:
    page = extract("".join(f"<font><p><a href='/{n}'>link {n}</a> text" for n in range(500)), URL)
    assert len(page.links) == 500
    assert "link 499" in page.text


def test_a_bloated_tag_is_kept_without_its_attributes() -> None:
    attributes = " ".join(f"a{n}=1" for n in range(100_000))
    assert text_of(f"<p {attributes}>words</p>") == "words"


def test_control_characters_and_lone_surrogates_are_no_text() -> None:
    assert text_of("a\0b\x01c\ud800 <p>d\ufffe</p>") == "abc?\nd"


SOUP = st.lists(
    st.one_of(
        st.sampled_from([
            "<p>", "</p>", "<div", ">", "<a href='", "'", '"', "<table><td>", "</body>", "<html>",
            "<script>", "</script>", '<script type="application/ld+json">', "{", "}", '"a":', "[",
            "<!--", "-->", "<![CDATA[", "&#0;", "&#x110000;", "&amp", "<base href='http://[x'>",
            "<meta charset=utf-16>", "<?xml encoding='x'?>", "\0", "<time datetime='", "mailto:%",
            "<frameset>", "<svg><title>", "<select><option>", "<pre>\n", "<a href='tel:",
        ]),
        st.text(max_size=12),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SOUP)
def test_no_soup_breaks_it(parts: list[str]) -> None:
    html = "".join(parts)
    page = extract(html, URL)
    assert (page.reason is Reason.FETCHED) == bool(page.text)
    assert extract(html.encode("utf-8", "replace"), URL).reason in set(Reason)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400), st.sampled_from([b"", b"<html>", b"<p>", b"\xff\xfe", b"\x1f\x8b"]))
def test_no_bytes_break_it(body: bytes, start: bytes) -> None:
    page = extract(start + body, URL)
    assert (page.reason is Reason.FETCHED) == bool(page.text)


def test_damaged_pages_of_the_wild_do_not_break_it() -> None:
    chance = random.Random(3)
    whole = b"<html><body><table><tr><td><a href='/x'>T\xc3\xa4xt</a></td></tr></table>" * 40
    for _ in range(60):
        damaged = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(chance.randrange(60)):
            damaged[chance.randrange(len(damaged)) - 1 :][:1] = chance.randbytes(1)
        assert extract(bytes(damaged), URL).reason in {Reason.FETCHED, Reason.UNSUPPORTED_TYPE}


def test_threads_and_processes_read_the_same() -> None:
    pages = [f"<title>{n}</title><body>" + f"<p>Paragraph {n} of it.</p>" * 20 for n in range(16)]
    alone = [extract(page) for page in pages]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(extract, pages)) == alone
    with ProcessPoolExecutor(2) as processes:
        assert list(processes.map(extract, pages)) == alone


def fetched(body: bytes, content_type: str = "", reason: Reason = Reason.FETCHED) -> Fetched:
    return Fetched(URL, URL, reason, 200, body, {"content-type": content_type})


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"<p>page</p>", "text/html; charset=utf-8", "page"),
        (b"<p>page</p>", "", "page"),
        (b"<!doctype html><p>page", "text/plain", "page"),
        (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body>x</body></html>",
         "application/xhtml+xml", "x"),
        (b"a < b & <i>c</i>", "text/plain", "a < b & <i>c</i>"),
        (b'{"a": "<p>"}', "application/json", '{"a": "<p>"}'),
        (b"<feed><id>t</id></feed>", "application/atom+xml", "<feed><id>t</id></feed>"),
        ("größe".encode("cp1252"), "text/plain; charset=ISO-8859-1", "größe"),
        (b"plain words", "application/octet-stream", "plain words"),
    ],
)  # fmt: skip
def test_read_page_by_kind(body: bytes, content_type: str, text: str) -> None:
    page = read_page(fetched(body, content_type))
    assert (page.reason, page.text, page.url) == (Reason.FETCHED, text, URL)
    assert page.markdown


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "text/plain", Reason.EMPTY),
        (b"", "application/pdf", Reason.EMPTY),
        (b"no pdf", "application/pdf", Reason.DAMAGED),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "image/png", Reason.UNSUPPORTED_TYPE),
        (b"words", "audio/mpeg", Reason.UNSUPPORTED_TYPE),
        (b"x" * (MOST_BYTES + 1), "text/plain", Reason.TOO_LARGE),
    ],
)
def test_read_page_without_text(body: bytes, content_type: str, reason: Reason) -> None:
    assert read_page(fetched(body, content_type)).reason is reason


def test_read_page_keeps_the_reason_of_a_failed_fetch() -> None:
    assert read_page(fetched(b"", reason=Reason.NOT_FOUND)).reason is Reason.NOT_FOUND
