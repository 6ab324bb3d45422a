"""PDFs: text or a named outcome, and an end in time whatever the file."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_common.crawling import Fetched, Reason, read_page, read_pdf
from tests.support import data_dir

WITHOUT_TEXT = {"issue-203-decimalize.pdf": Reason.NO_TEXT, "empty.pdf": Reason.EMPTY}


def made(*objects: bytes) -> bytes:
    """Put objects, the first of them the catalogue, into a PDF."""
    body, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return (
        body + b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
        + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (count, len(body))
    )  # fmt: skip


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(data), data)


def one_page(contents: bytes, *more: bytes, resources: bytes = b"") -> bytes:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R"
    page += b"/Resources<</Font<</F 5 0 R>>%s>>>>"
    return made(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        page % resources,
        contents,
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *more,
    )


HELLO = b"BT /F 12 Tf 10 700 Td (Hello) Tj ET"


def forms(levels: int) -> bytes:
    """Draw a form ten times that draws a form ten times, and so on: 10 ** levels words."""
    inner: list[bytes] = []
    for level in range(levels):
        last = level == levels - 1
        below = b"" if last else b"/XObject<</X %d 0 R>>" % (7 + level)
        form = (
            b"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</Font<</F 5 0 R>>%s>>" % below
        )
        inner.append(stream(HELLO if last else b"/X Do " * 10, form))
    return one_page(stream(b"/X Do " * 10), *inner, resources=b"/XObject<</X 6 0 R>>")


def test_every_pdf_has_text_or_a_named_outcome() -> None:
    files = sorted(data_dir("pdf").glob("*.pdf"))
    assert len(files) == 23
    with ThreadPoolExecutor(2) as threads:
        pages = list(threads.map(lambda file: read_pdf(file.read_bytes()), files))
    for file, page in zip(files, pages, strict=True):
        assert page.reason is WITHOUT_TEXT.get(file.name, Reason.FETCHED), file.name
        assert bool(page.text) == (page.reason is Reason.FETCHED)


def test_what_it_is_about() -> None:
    page = read_pdf((data_dir("pdf") / "annotated_pdf.pdf").read_bytes(), "https://x.org/a.pdf")
    assert (page.url, page.title, page.published) == (
        "https://x.org/a.pdf", "Annotated PDF", "1990-04-28"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"%PDF-1.7\n" + b"\xff\0garbage" * 99, Reason.DAMAGED),
        (b"no pdf at all", Reason.DAMAGED),
        (one_page(stream(b"0 0 m 9 9 l S")), Reason.NO_TEXT),
        (b"%PDF-1.4" + b"\0" * 50_000_000, Reason.TOO_LARGE),
    ],
    ids=["garbage", "other", "drawing", "large"],
)
def test_outcomes(body: bytes, reason: Reason) -> None:
    assert read_pdf(body).reason is reason


def test_an_encrypted_file_says_so() -> None:
    whole = one_page(stream(HELLO))
    keys = b"<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>" % (b"41" * 32, b"42" * 32)
    locked = whole.replace(b"/Root 1 0 R", b"/Root 1 0 R/ID[<41><41>]/Encrypt " + keys)
    assert read_pdf(whole).text == "Hello"
    assert read_pdf(locked).reason is Reason.ENCRYPTED


def test_a_file_that_would_take_days_is_given_up() -> None:
    assert read_pdf(forms(2)).text
    assert read_pdf(forms(12), seconds=1).reason is Reason.TOO_LARGE


def test_a_file_that_would_take_all_memory_is_given_up() -> None:
    operators = zlib.compress(b"BT /F 12 Tf " + b"(a) Tj 0 1 Td " * 9_000_000 + b"ET")
    assert len(operators) < 1_000_000
    bomb = one_page(stream(operators, b"/Filter/FlateDecode"))
    assert read_pdf(bomb, seconds=20).reason is Reason.TOO_LARGE


def test_a_pdf_is_known_by_its_bytes() -> None:
    body = one_page(stream(HELLO))
    url = "https://x.org/download"
    sent = Fetched(url, url, Reason.FETCHED, 200, body, {"content-type": "text/html"})
    assert read_page(sent).text == "Hello"
