"""Quotes against texts: what verifies, what is repaired, and what must never pass."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common.documents import load_document
from llm_common.evidence import Passages, find_best, verify
from llm_common.evidence.folding import fold
from tests.support import data_dir

TEXT = (
    "The Housing Trust shall pay up to $46,532,000 for repairs of public homes, and may not "
    "charge tenants for them. Mrs. Álvarez of Ohio warned that “one in five” homes — about 12.5% "
    "of all — has no working heat\u00ading.\n\nThe o\ufb03ce will report every six months, and "
    "the report is published in full on its pages within 30 days of the end of the period."
)

VERIFIED = [
    "shall pay up to $46,532,000 for repairs",
    "SHALL PAY  up to\n$46,532,000 for repairs",
    '"one in five" homes - about 12.5% of all',
    "has no working heating.",
    "The office will report every six months",
    "“Mrs. A\u0301lvarez of Ohio warned”",
]


@pytest.mark.parametrize("quote", VERIFIED)
def test_typography_is_not_a_difference(quote):
    verdict = verify(quote, TEXT)
    assert verdict.status == "verified"
    assert verdict.quote == TEXT[verdict.start : verdict.end]


REPAIRED = {
    "an altered word": (
        "published in full at its pages within 30 days",
        "published in full on its pages within 30 days",
    ),
    "a word too many": (
        "the report is then published in full on its pages",
        "the report is published in full on its pages",
    ),
    "a word too few": (
        "the report published in full on its pages",
        "the report is published in full on its pages",
    ),
    "punctuation": (
        "repairs of public homes and may not charge",
        "repairs of public homes, and may not charge",
    ),
    "words left out, and said so": (
        "The office will report … published in full",
        "The oﬃce will report every six months, and the report is published in full",
    ),
    "an ellipsis in front": (
        "...the report is published in full",
        "the report is published in full",
    ),
}


@pytest.mark.parametrize(("quote", "passage"), REPAIRED.values(), ids=REPAIRED.keys())
def test_a_slight_difference_is_repaired_with_the_passages_own_words(quote, passage):
    verdict = verify(quote, TEXT)
    assert (verdict.status, verdict.quote) == ("repaired", passage)
    assert TEXT[verdict.start : verdict.end] == passage


UNVERIFIED = {
    "a digit": "shall pay up to $46,532,001 for repairs of public homes",
    "part of a number": "The Housing Trust shall pay up to $46",
    "the end of a number": "532,000 for repairs of public homes",
    "a percentage without its sign": "homes — about 12.5",
    "another currency": "shall pay up to €46,532,000 for repairs of public homes",
    "a number word": "The office will report every four months, and the report is published",
    "a dropped negation": "repairs of public homes, and may charge tenants for them",
    "an added negation": "the report is not published in full on its pages",
    "another name": "Mrs. Romero of Ohio warned that one in five homes",
    "a name in place of a word": "shall pay up to $46,532,000 for Boston of public homes",
    "a dropped modal": "The office report every six months, and the report is published",
    "a modal": "The Housing Trust may pay up to $46,532,000 for repairs of public homes",
    "another unit": "published in full on its pages within 30 weeks of the end of the period",
    "an ellipsis over a negation": "repairs of public homes … charge tenants for them",
    "an ellipsis between texts in reverse": "published in full ... The Housing Trust shall pay",
    "too many words altered": "the paper was printed in whole on those pages within 30 days",
    "invented": "tenants can apply for help with their rent at any time",
    "two words": "Housing Trust",
    "too short": "of the a",
    "nothing": "",
    "only punctuation": "... — ... — ... — ...",
}


@pytest.mark.parametrize("quote", UNVERIFIED.values(), ids=UNVERIFIED.keys())
def test_what_says_something_else_never_passes(quote):
    verdict = verify(quote, TEXT)
    assert (verdict.status, verdict.quote) == ("unverified", quote)
    assert verdict.start is verdict.end is None


OPPOSITES = [
    ("The act is lawful in all of the states", "The act is unlawful in all of the states"),
    ("It was a harmful dose of the new drug", "It was a harmless dose of the new drug"),
    ("They do charge a fee for the second copy", "They don't charge a fee for the second copy"),
    ("prices will increase in most of the regions", "prices will decrease in most of the regions"),
    ("the area grew to 10² of the usual size", "the area grew to 102 of the usual size"),
]


@pytest.mark.parametrize(("quote", "text"), OPPOSITES)
def test_opposites_are_not_slight_differences(quote, text):
    assert verify(quote, text).status == "unverified"
    assert verify(text, quote).status == "unverified"


def test_a_negation_just_outside_the_passage_is_not_cut_off():
    text = "The funds shall not be used for the purposes of travel."
    assert verify("money be used for the purposes of travel", text).status == "unverified"


def test_scripts_without_spaces():
    text = "住院号码和采样时间都已经登记在实验记录里。"
    assert verify("采样时间都已经登记在实验记录", text).status == "verified"
    assert verify("采样时间都没有登记在别的地方吗", text).status == "unverified"


def test_the_best_source_is_named():
    sources = {"a": "Nothing of the kind.", "b": TEXT.replace("full", "whole"), "c": TEXT}
    quote = "the report is published in full on its pages"
    source, verdict = find_best(quote, sources)
    assert (source, verdict.status) == ("c", "verified")
    source, verdict = find_best(quote, {"a": sources["a"], "b": Passages(sources["b"])})
    assert (source, verdict.status) == ("b", "repaired")
    assert "published in whole" in verdict.quote
    assert find_best("It was never said by anyone", sources)[0] is None


WORDS = st.from_regex(r"[“$-]?[a-zA-Zé'ßﬁ.,–0-9]*[a-zXY0-9][”%,.]?", fullmatch=True)
GAPS = st.sampled_from([" ", "\n", "  ", "\u00a0", "\t"])


@settings(deadline=None)
@given(st.lists(WORDS, min_size=7, max_size=60), GAPS, st.data())
def test_any_run_of_words_verifies_where_it_stands(words, gap, data):
    first = data.draw(st.integers(0, len(words) - 7))
    last = data.draw(st.integers(first + 7, len(words)))
    quote = gap.join(words[first:last])
    verdict = verify(quote, gap.join(words))
    assert verdict.status == "verified"
    assert verdict.quote == gap.join(words)[verdict.start : verdict.end]
    assert fold(verdict.quote).text == fold(quote.strip("\"'“”")).text


@settings(deadline=None)
@given(
    st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=8, max_size=40),
    st.integers(0, 10**9),
    st.data(),
)
def test_a_changed_digit_never_passes(words, number, data):
    place = data.draw(st.integers(0, len(words)))
    digits = str(number)
    at = data.draw(st.integers(0, len(digits) - 1))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != digits[at]]))
    changed = digits[:at] + other + digits[at + 1 :]
    text = " ".join([*words[:place], digits, *words[place:]])
    quote = " ".join([*words[:place], changed, *words[place:]])
    assert verify(text, text).status == "verified"
    assert verify(quote, text).status == "unverified"


def test_a_quote_that_repeats_its_words_may_point_behind_the_end():
    rest = "aaa aaa aaa aaa aaa aaaa aaaa aaa"
    assert verify(f"aaa 1 {rest}", f"aaa 0 {rest}").status == "unverified"


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[bcdfghz]{4,8}", fullmatch=True), min_size=10), st.data())
def test_one_altered_word_is_repaired_with_the_passage(words, data):
    place = data.draw(st.integers(0, len(words) - 1))
    text = " ".join(words)
    verdict = verify(" ".join([*words[:place], "qqqq", *words[place + 1 :]]), text)
    assert (verdict.status, verdict.quote) == ("repaired", text)


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=60))
def test_any_input_has_a_verdict(text, quote):
    verdict = verify(quote, text)
    assert (verdict.status == "unverified") == (verdict.start is None)


def test_large_texts_are_quick():
    text = load_document(data_dir("bills") / "h265_rfs.xml").text * 2
    begun = time.process_time()
    passages = Passages(text)
    prepared = time.process_time()
    sentences = [s for s in re.split(r"(?<=[.;])\s", text[:60_000]) if len(s.split()) > 8][:100]
    assert all(passages.verify(s).status == "verified" for s in sentences)
    invented = [s.replace(" the ", " purple ", 3) for s in sentences]
    assert all(passages.verify(s).status != "verified" for s in invented if "purple" in s)
    # A fifth of a second; a search through the whole text for each word of it takes minutes.
    assert prepared - begun < 20
    assert time.process_time() - prepared < 20
