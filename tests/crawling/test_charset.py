"""From bytes to characters."""

from __future__ import annotations

import pytest

from llm_common.crawling.charset import codec, decode

GERMAN = "Größe und Übermaß: die Straße über dem Fluss, größer als je zuvor – schön."
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю. Привет, мир, как дела?"
JAPANESE = "日本語の文章をここに書きます。これは文字コードの試験です。東京都千代田区。"
CHINESE = "这是一个用来测试字符编码的网页,我们在这里写一些中文内容,希望能够正确识别。"
GREEK = "Καλημέρα κόσμε, αυτή είναι μια δοκιμή κωδικοποίησης χαρακτήρων στα ελληνικά."


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        (GERMAN, "utf-8", "utf-8"),
        (GERMAN, "cp1252", "iso-8859-1"),
        (GERMAN, "cp1252", "latin1"),
        (RUSSIAN, "cp1251", "windows-1251"),
        (RUSSIAN, "koi8-r", "KOI8-R"),
        (JAPANESE, "shift_jis", "Shift_JIS"),
        (JAPANESE, "euc-jp", "euc-jp"),
        (JAPANESE, "iso-2022-jp", "iso-2022-jp"),
        (CHINESE, "gb18030", "gb2312"),
        (GREEK, "iso8859-7", "iso-8859-7"),
        ("Türkçe: ığüşöç", "cp1254", "iso-8859-9"),
    ],
)
def test_a_true_declaration(text: str, encoding: str, label: str) -> None:
    for head in (f'<meta charset="{label}">', f"<?xml version='1.0' encoding='{label}'?>"):
        assert decode((head + text).encode(encoding)) == head + text
    assert decode(text.encode(encoding), label) == text


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        (GERMAN, "utf-8", "iso-8859-1"),
        (JAPANESE, "utf-8", "shift_jis"),
        (GERMAN, "cp1252", "utf-8"),
        (RUSSIAN * 4, "cp1251", "utf-8"),
        (RUSSIAN * 4, "cp1251", "iso-8859-1"),
        (GERMAN, "utf-8", "utf-16"),
        (GERMAN, "utf-8", "no-such-charset"),
        (GERMAN, "cp1252", "rot13"),
    ],
)
def test_a_false_declaration(text: str, encoding: str, label: str) -> None:
    page = f'<html><head><meta charset="{label}"></head><body><p>{text}</p>'
    assert decode(page.encode(encoding)) == page


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        (RUSSIAN * 4, "cp1251"),
        (JAPANESE * 4, "shift_jis"),
        (CHINESE * 4, "gbk"),
    ],
)
def test_no_declaration(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-16"])
def test_marks_and_wide_characters(encoding: str) -> None:
    page = "<html><body>" + GERMAN
    assert decode(page.encode(encoding), "windows-1251") == page


def test_a_header_counts_before_the_page() -> None:
    page = f"<meta charset=windows-1251>{GREEK}"
    assert decode(page.encode("iso8859-7"), "iso-8859-7") == page


def test_a_few_broken_bytes_do_not_change_the_charset() -> None:
    broken = GERMAN.encode() + b" \xff " + GERMAN.encode()
    assert decode(broken, "utf-8") == f"{GERMAN} � {GERMAN}"


@pytest.mark.parametrize(
    "label", ["unicode_escape", "idna", "utf-7", "base64", "hex", "", "x" * 99]
)
def test_only_charsets_of_the_web_are_known(label: str) -> None:
    assert codec(label) is None


def test_labels_mean_what_browsers_mean() -> None:
    assert {codec(label) for label in ("ISO-8859-1", "ascii", " Latin1 ")} == {"cp1252"}
    assert codec("utf-16") == "utf-8"
