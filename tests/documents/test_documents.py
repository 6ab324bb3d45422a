"""Documents of every kind, and every way in which one can be unreadable."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from lxml import etree

from llm_common.documents import load_document
from llm_common.documents.markup import read_html
from llm_common.errors import DocumentError, MissingExtraError
from llm_common.extras import require
from tests.support import data_dir

SPECIMEN = "bills-114s32cds.xml"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_every_bill_is_read_whole_in_order_and_without_its_meta_block():
    bills = sorted(data_dir("bills").glob("*.xml"))
    assert len(bills) == 17
    for path in bills:
        document = load_document(path)
        root = etree.parse(path).getroot()
        root.remove(root.find("{*}meta"))
        for comment in root.iter(etree.Comment, etree.ProcessingInstruction):
            comment.text = ""
        assert squeezed(document.text) == squeezed("".join(root.itertext())), path.name


def test_bills_have_a_readable_id_and_their_title():
    documents = [load_document(p) for p in sorted(data_dir("bills").glob("*.xml"))]
    ids = [d.id for d in documents]
    assert ids[:4] == [
        "114 S. 32 CDS",
        "116 H. Res. 755 RDS",
        "116 S. Con. Res. 10 RS",
        "116 H. R. 1058 RDS",
    ]
    assert "116 S. 2245" in ids  # has no citation: congress, type and number
    assert all(d.title and not re.match(r"\d", d.title) for d in documents)
    assert {d.media_type for d in documents} == {"application/xml"}


def test_a_bill_keeps_its_numbering_line_by_line():
    lines = load_document(data_dir("bills") / SPECIMEN).text.splitlines()
    assert "SECTION 1. SHORT TITLE." in lines
    assert "This Act may be cited as the “Transnational Drug Trafficking Act of 2015”." in lines
    assert (
        "(1) in section 2318(b)(2), by striking “section 2320(e)” and inserting "
        "“section 2320(f)”; and" in lines
    )
    sections = [line for line in lines if line.startswith("SEC")]
    assert [s.split(".")[0] for s in sections] == ["SECTION 1", "SEC", "SEC"]


def test_every_pdf_gives_text_or_a_named_reason():
    paths = sorted(data_dir("pdf").glob("*.pdf"))
    assert len(paths) == 23
    refused: dict[str, str] = {}
    for path in paths:
        try:
            document = load_document(path)
        except DocumentError as error:
            refused[path.name] = str(error)
        else:
            assert document.text.strip()
            assert document.title
            assert "\r" not in document.text
            assert document.media_type == "application/pdf"
    assert sorted(refused) == ["empty.pdf", "issue-203-decimalize.pdf"]
    assert refused["empty.pdf"].endswith("is empty")
    assert "PDF without text" in refused["issue-203-decimalize.pdf"]


def test_a_pdf_has_its_own_title_and_all_its_pages():
    document = load_document(data_dir("pdf") / "pdf_structure.pdf")
    assert document.title == "PDF avec Structure"
    pages = load_document(data_dir("pdf") / "hello_structure.pdf").text
    assert "Hello World" in pages
    assert "I’ll be back shortly!" in pages


def test_text_and_markdown(tmp_path):
    text = load_document(write(tmp_path, "a.txt", "\ufeff\nFirst line.\r\nSecond."))
    assert (text.id, text.title, text.media_type) == ("a", "First line.", "text/plain")
    assert text.text == "\nFirst line.\nSecond."
    marked = load_document(write(tmp_path, "b.md", "intro\n\n## The title ##\n\nbody"))
    assert (marked.title, marked.media_type) == ("The title", "text/markdown")
    wide = load_document(write(tmp_path, "c.txt", "Grüße".encode("utf-16")))
    assert wide.text == "Grüße"


def test_the_hash_and_the_source_are_of_the_file(tmp_path):
    path = write(tmp_path, "a.txt", "some words")
    document = load_document(str(path))
    assert document.sha256 == hashlib.sha256(b"some words").hexdigest()
    assert document.source == str(path)


PAGE = """<!DOCTYPE html><html><head><title>Rent &amp; relief</title><style>p{}</style></head>
<body><script>var hidden = 1;</script><!-- unseen --><h1>Relief</h1><p>It pays <b>900</b>
dollars.</p>after<ul><li>one</li><li>two</li></ul>
<table><tr><td>a</td><td>b</td></tr></table></body></html>"""


def test_a_page_is_what_its_reader_sees(tmp_path):
    document = load_document(write(tmp_path, "page.txt", PAGE))
    assert (document.media_type, document.title) == ("text/html", "Rent & relief")
    assert document.text == "Relief\nIt pays 900 dollars.\nafter\none\ntwo\na b"


def test_a_page_in_its_own_encoding(tmp_path):
    page = '<html><head><meta charset="latin-1"><title>x</title></head><body>Grüße</body></html>'
    assert load_document(write(tmp_path, "a.html", page.encode("latin-1"))).text == "Grüße"


def test_saved_pages_give_text():
    pages = sorted((data_dir("articles") / "html").glob("*.html.gz"))[:5]
    assert pages
    for page in pages:
        parsed = read_html(gzip.decompress(page.read_bytes()))
        assert len(parsed.text) > 500
        assert parsed.title
        assert "<script" not in parsed.text


def nested(depth: int) -> str:
    return "<html><body>" + "<div>" * depth + "deep" + "</div>" * depth


def test_deep_nesting_does_not_exhaust_the_stack(tmp_path):
    assert load_document(write(tmp_path, "deep.html", nested(2_000))).text == "deep"
    with pytest.raises(DocumentError, match="holds no text"):
        load_document(write(tmp_path, "deeper.html", nested(50_000)))


ENCRYPTED = b"""%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[]/Count 0>> endobj
3 0 obj <</Filter/Standard/V 1/R 2/P -4/O(AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA)\
/U(BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB)>> endobj
trailer <</Root 1 0 R/Size 4/Encrypt 3 0 R/ID[(a)(a)]>>
%%EOF
"""

USLM = 'xmlns="http://schemas.gpo.gov/xml/uslm"'
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE bill [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>'
    f"<bill {USLM}><main><section>&c;</section></main></bill>"
)

UNREADABLE = [
    ("empty.txt", b"", "is empty"),
    ("blank.txt", b" \n\t ", "holds no text"),
    ("blank.html", b"<html><body> </body></html>", "holds no text"),
    ("comment.html", b"<!-- nothing -->", "is HTML without content"),
    ("image.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is binary"),
    ("image.html", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is binary"),
    ("bells.txt", b"\x07\x08" * 50, "is binary"),
    ("latin.txt", "Grüße aus Köln".encode("latin-1"), "neither UTF-8"),
    ("encrypted.pdf", ENCRYPTED, "is encrypted"),
    ("damaged.pdf", b"%PDF-1.7\nnothing of the kind", "is a damaged PDF"),
    ("cut.xml", f"<?xml version='1.0'?><bill {USLM}><main>".encode(), "is damaged XML"),
    ("other.xml", b"<?xml version='1.0'?><note>hello</note>", "not a bill in USLM"),
    ("laughs.xml", LAUGHS.encode(), "declares XML entities"),
]


@pytest.mark.parametrize(("name", "content", "reason"), UNREADABLE, ids=lambda v: str(v)[:20])
def test_what_can_not_be_read_is_named_with_its_reason(tmp_path, name, content, reason):
    path = write(tmp_path, name, content)
    with pytest.raises(DocumentError, match=reason) as caught:
        load_document(path)
    assert str(caught.value).startswith(str(path))


def test_other_files_are_not_pulled_in(tmp_path):
    secret = write(tmp_path, "secret.txt", "the secret")
    bill = (
        f'<?xml version="1.0"?><!DOCTYPE bill [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
        f"<bill {USLM}><main><section>&x;</section></main></bill>"
    )
    with pytest.raises(DocumentError, match="declares XML entities") as caught:
        load_document(write(tmp_path, "bill.xml", bill))
    assert "the secret" not in str(caught.value)


def test_missing_files_folders_and_giants(tmp_path):
    with pytest.raises(DocumentError, match=r"nowhere\.txt does not exist"):
        load_document(tmp_path / "nowhere.txt")
    with pytest.raises(DocumentError, match="is a folder"):
        load_document(tmp_path)
    giant = tmp_path / "giant.txt"
    with giant.open("wb") as stream:
        stream.truncate(50 * 1024 * 1024 + 1)
    with pytest.raises(DocumentError, match=r"giant\.txt is larger than 50 MB"):
        load_document(giant)


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingExtraError, match=r"llm-common\[documents\]"):
        require("a_package_that_nobody_has", "documents")


def test_half_of_a_real_pdf_is_damaged(tmp_path):
    whole = (data_dir("pdf") / "annotations.pdf").read_bytes()
    path = write(tmp_path, "half.pdf", whole[: len(whole) // 2])
    with pytest.raises(DocumentError, match=r"half\.pdf is a damaged PDF"):
        load_document(path)
