"""The offline model: any schema is met, and nothing is said that the prompt does not hold."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common.testing.extractive import answer
from llm_common.testing.question import Question, Tool, Turn, count_tokens
from tests.support import data_dir

PROSE = """The county council has replaced forty miles of water pipe since the spring of last year.
The work was paid for by a bond of 12 million dollars that the voters approved in November.

HEADING OF THE NEXT PART

Residents of the northern district complained that their streets stayed closed for eight weeks.
A spokesman said the contractor had hit rock, which slowed the digging by half."""

MARKED = f"""Analyse these.
<source id="s1" title="Water works &amp; bonds" url="https://county.example/water">{PROSE}</source>
<source id="s2" title="School lunches" url="https://county.example/lunch">
The school board voted to serve free lunches to every pupil in the district from September.
It expects the programme to cost about 3 million dollars in its first full year.</source>"""


def folded(text: str) -> str:
    return " ".join(text.split())


def ask(prompt: str = MARKED, **extra: Any) -> Question:
    return Question(turns=(Turn("system", "Be exact."), Turn("user", prompt)), **extra)


def structured(schema: Any, prompt: str = MARKED, **extra: Any) -> Any:
    said = json.loads(answer(ask(prompt, schema=schema, **extra)).text)
    jsonschema.validate(said, schema)
    return said


def fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


TEXT = {"type": "string"}


def test_strings_are_sentences_of_the_material_and_differ():
    said = structured(fields(summary=TEXT, impact=TEXT, outlook=TEXT))
    assert len(set(said.values())) == 3
    for text in said.values():
        assert text in folded(MARKED)
        assert 40 <= len(text) <= 300


def test_the_property_steers_the_choice():
    said = structured(fields(lunches={**TEXT, "description": "free school lunches for pupils"}))
    assert "free lunches" in said["lunches"]


def test_quote_source_and_address_belong_together():
    item = fields(quote=TEXT, source_id=TEXT, url=TEXT, claim=TEXT)
    said = structured(fields(evidence={"type": "array", "items": item}))
    assert len(said["evidence"]) == 3
    texts = dict(zip(("s1", "s2"), MARKED.split("<source ")[1:], strict=True))
    for part in said["evidence"]:
        assert part["quote"] in folded(texts[part["source_id"]])
        assert part["url"] in texts[part["source_id"]]


def test_without_marks_the_user_is_the_material_and_the_system_is_not():
    said = answer(ask(PROSE)).text
    assert said
    assert all(part in folded(PROSE) for part in said.rstrip(".").split(". "))
    assert "Be exact" not in said


def test_headings_are_not_said():
    every = structured(fields(**{f"text_{i}": TEXT for i in range(6)}), PROSE)
    assert not any("HEADING" in text for text in every.values())


def test_queries_are_short_phrases_with_words_of_the_titles():
    said = structured(fields(queries={"type": "array", "items": TEXT, "maxItems": 5}))
    assert said["queries"][:2] == ["water works bonds", "school lunches"]
    assert all(len(q.split()) <= 6 for q in said["queries"])
    assert len(set(said["queries"])) == len(said["queries"]) == 3


def test_titles_dates_and_addresses_have_their_form():
    schema = fields(
        title=TEXT,
        link={"type": "string", "format": "uri"},
        on={"type": "string", "format": "date"},
    )
    said = structured(schema)
    assert said["title"] == "Water works & bonds"
    assert said["link"] == "https://county.example/water"
    assert said["on"] == "2024-01-01"


def test_forms_are_met_from_the_material_where_it_has_them():
    schema = fields(
        on={"type": "string", "format": "date"},
        at={"type": "string", "format": "date-time"},
        to={"type": "string", "format": "email"},
        code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
    )
    said = structured(schema, "Write to clerk@county.example on case OH-17 by 2025-03-09 please.")
    assert (said["on"], said["to"]) == ("2025-03-09", "clerk@county.example")
    assert (said["code"], said["at"]) == ("OH-17", "2024-01-01T00:00:00Z")


NUMBERS = [
    ({"type": "number", "minimum": 0, "maximum": 1}, 0.8),
    ({"type": "integer", "minimum": 1, "maximum": 6}, 5),
    ({"type": "integer", "minimum": 7}, 7),
    ({"type": "integer", "maximum": -3}, -3),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10, "multipleOf": 2.5}, 5),
    ({"type": "integer"}, 1),
]


@pytest.mark.parametrize(("schema", "expected"), NUMBERS)
def test_numbers_stay_inside_their_bounds(schema, expected):
    assert structured(fields(amount=schema))["amount"] == expected


def test_confidence_without_bounds_is_a_share():
    assert structured(fields(confidence={"type": "number"}))["confidence"] == 0.8


def test_choices_constants_defaults_and_nulls():
    schema = fields(
        status={"enum": [None, "open", "done"]},
        kind={"const": "bill"},
        note={"type": "string", "default": "none"},
        passed={"type": "boolean"},
        maybe={"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 2}]},
        nothing={"type": "null"},
        listed={"type": ["null", "string"]},
        all_of={"allOf": [fields(a=TEXT), fields(b={"type": "boolean"})]},
    )
    said = structured(schema)
    assert (said["status"], said["kind"], said["note"]) == ("open", "bill", "none")
    assert (said["passed"], said["maybe"], said["nothing"]) == (True, 2, None)
    assert said["listed"] in folded(MARKED)
    assert said["all_of"]["b"] is True


def test_arrays_hold_what_they_must_and_at_most_three():
    schema = fields(
        few={"type": "array", "items": TEXT},
        many={"type": "array", "items": TEXT, "minItems": 5},
        one={"type": "array", "items": TEXT, "maxItems": 1},
        pair={"type": "array", "prefixItems": [TEXT, {"type": "boolean"}], "items": False},
    )
    said = structured(schema)
    assert [len(said[name]) for name in schema["properties"]] == [3, 5, 1, 2]


def test_recursive_schemas_come_to_an_end():
    schema = {
        **fields(root={"$ref": "#/$defs/Node"}),
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "text": TEXT,
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                },
                "required": ["text"],
            }
        },
    }
    assert structured(schema)["root"]["text"]


LEAVES = st.one_of(
    st.fixed_dictionaries({"type": st.just("boolean")}),
    st.builds(
        lambda low, size, kind: {"type": kind, "minimum": low, "maximum": low + size},
        st.integers(-100, 100),
        st.integers(0, 50),
        st.sampled_from(["integer", "number"]),
    ),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 400),
        st.integers(0, 100),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.text(max_size=5), min_size=1)),
)
NAMES = st.sampled_from(["quote", "source_id", "url", "claim", "queries", "title", "score", "x"])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=4).map(lambda p: fields(**p)),
        st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.integers(0, 5),
        ),
        inner.map(lambda s: {"anyOf": [{"type": "null"}, s]}),
        inner.map(lambda s: {"allOf": [s]}),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(SCHEMAS)
def test_any_schema_is_met(schema):
    structured({**fields(value=schema)})


@settings(deadline=None)
@given(st.text(max_size=500))
def test_any_prompt_has_an_answer_and_always_the_same(prompt):
    schema = fields(summary=TEXT, quote=TEXT)
    assert answer(ask(prompt, schema=schema)) == answer(ask(prompt, schema=schema))
    assert answer(ask(prompt)).text


def test_the_answer_shrinks_to_fit_max_tokens():
    schema = fields(**{f"text_{i}": TEXT for i in range(5)})
    draft = answer(ask(schema=schema, max_tokens=100))
    assert count_tokens(draft.text) <= 100
    jsonschema.validate(json.loads(draft.text), schema)


def test_what_can_not_fit_is_cut_and_says_so():
    draft = answer(ask(schema=fields(**{f"text_{i}": TEXT for i in range(50)}), max_tokens=100))
    assert draft.cut
    assert count_tokens(draft.text) <= 100


def test_json_mode_finds_the_schema_in_the_prompt():
    schema = fields(verdict={"enum": ["pass"]}, why=TEXT)
    turns = (Turn("system", f"Answer as {json.dumps(schema)}."), Turn("user", PROSE))
    said = json.loads(answer(Question(turns=turns, json_object=True)).text)
    jsonschema.validate(said, schema)
    assert said["why"] in folded(PROSE)


def test_json_mode_without_a_schema_is_still_json():
    assert json.loads(answer(ask(json_object=True)).text)["answer"] in folded(MARKED)


def test_of_several_tools_only_a_forced_one_is_called():
    tools = (Tool("first", fields(a=TEXT)), Tool("second", fields(b=TEXT)))
    assert answer(ask(tools=tools)).tool is None
    assert answer(ask(tools=tools, forced="second")).tool == "second"
    assert answer(ask(tools=tools, forced="*")).tool == "first"


def test_real_bills_are_answered_in_time():
    bill = (data_dir("bills") / "h265_rfs.xml").read_text(encoding="utf-8")
    prompt = f'<source id="b" title="Agriculture" url="https://c.example">{bill[:200_000]}</source>'
    begun = time.process_time()
    said = structured(fields(**{f"quote_{i}": TEXT for i in range(20)}), prompt)
    # A tenth of a second; whatever is done for each character of each character takes minutes.
    assert time.process_time() - begun < 20
    assert all(text in folded(prompt) for text in said.values())
