"""Whom a text names."""

from __future__ import annotations

import pytest

from llm_common.enrichment.naming import key_of, keys_of, places_of
from llm_common.enrichment.neighbours import others_in
from llm_common.enrichment.states import state_of, states_in

JOHN = key_of("name", "John Smith")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("John Smith", "State Rep. John Smith | California", "John Smith"),
        ("John Smith", "JOHN SMITH", "JOHN SMITH"),
        ("John Smith", "Smith, John A. | 916", "Smith, John A"),
        ("John Smith", "John Q. Smith’s office", "John Q. Smith’s"),
        ("John A. Smith", "John Adam Smith", "John Adam Smith"),
        ("John A. Smith", "John Smith", "John Smith"),
        ("Rep. John Smith", "John Smith", "John Smith"),
        ("Smith, John", "John Smith", "John Smith"),
        ("John Smith Jr.", "John Smith, Jr.", "John Smith"),
        ('Robert "Bob" Smith', "Bob Smith", "Bob Smith"),
        ("Robert Smith", "Robert (Bob) Smith", "Robert (Bob) Smith"),
        ("José Peña", "Jose Pena", "Jose Pena"),
        ("Mary O'Neil", "Mary O’Neil", "Mary O’Neil"),
        ("Kern Tools Limited", "Kern Tools Ltd. of Bakersfield", "Kern Tools"),
        ("Green & Sons", "Green and Sons", "Green and Sons"),
        ("City of Dallas", "Welcome to the City of Dallas, Texas", "City of Dallas"),
    ],
)
def test_a_name_is_found(name: str, text: str, said: str) -> None:
    assert said in [text[start:end] for start, end in places_of(key_of("name", name), text)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("John Smith", "Adam Smith, John Doe"),
        ("John Smith", "called John. Smith said"),
        ("John Smith", "John Smith Elementary School"),
        ("John Smith", "St. John Smith"),
        ("John Smith", "John Smith Jr."),
        ("John Smith", "John Smith III"),
        ("John Smith Jr.", "John Smith"),
        ("John Smith", "John Adam Smith"),
        ("John A. Smith", "John B. Smith"),
        ("John Smith", "John Smithson"),
        ("John Smith", "John\nSmith"),
        ("Robert Smith", "Bob Smith"),
        ("Kern Tools", "Kern Tools Holdings"),
        ("Kern Tools", "New Kern Tools"),
    ],
)
def test_a_name_is_not_found(name: str, text: str) -> None:
    assert places_of(key_of("name", name), text) == []


@pytest.mark.parametrize(
    "text",
    ["Jane Doe", "Doe, Jane | 916", "Rep. Doe", "Will Smith", "Bill Ward", "Dean Smith", "Al Bo",
     "MARY-ANN O’NEIL", "Jane Smith", "John Smith Jr.", "María De La Cruz", "An Nguyen"],
)  # fmt: skip
def test_others_are_noticed(text: str) -> None:
    assert others_in(JOHN, text)


@pytest.mark.parametrize(
    "text",
    ["Contact Information", "Capitol Office, Room 6330", "1021 O Street", "Sacramento, CA 94249",
     "Ways and Means Committee", "House Bill 12", "Los Angeles", "P.O. Box 942849", "Smith said",
     "San Francisco", "Martin Luther King Boulevard", "Phone: 916-319-2024", "John Smith"],
)  # fmt: skip
def test_labels_and_places_are_nobody(text: str) -> None:
    assert others_in(JOHN, text) == []


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("John Smith (D-CA)", {"CA"}),
        ("Sacramento, CA 94249", {"CA"}),
        ("California Assembly", {"CA"}),
        ("| CA |", {"CA"}),
        ("West Virginia", {"WV"}),
        ("Indiana, PA 15701", {"PA"}),
        ("Kansas City, MO", {"MO"}),
        ("Washington, D.C.", {"DC"}),
        ("Washington State Senate", {"WA"}),
        ("John Smith, MD", set()),
        ("Virginia Foxx", set()),
        ("Denzel Washington", set()),
        ("OR else IN", set()),
        ("oregon trail", set()),
        ("Arkansas", {"AR"}),
    ],
)
def test_states(text: str, codes: set[str]) -> None:
    assert {code for code, _, _ in states_in(text)} == codes


def test_kinds_of_keys() -> None:
    row = {"first_name": "John", "last_name": "Smith", "state": "California", "district": "24"}
    john, state, district = keys_of(row, list(row))
    assert (john.kind, john.words) == ("person", ("john", "smith"))
    assert (state.kind, state.state) == ("state", "CA")
    assert district.kind == "number"
    assert keys_of({"name": " ", "state": None}, ["name", "state"]) == ()
    assert state_of("State of Texas") == "TX"
    for text in ("District 24", "24th district", "Dist. 24"):
        assert places_of(district, text)
    for text in ("District 42", "room 24", "924"):
        assert not places_of(district, text)
    assert key_of("company", "Jane Doe").kind == "thing"
