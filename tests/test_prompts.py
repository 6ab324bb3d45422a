"""Templates say what they take, and their hash pins what was sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.analysis import BILL
from llm_common.errors import ConfigurationError, InvalidInputError
from llm_common.prompts import Prompt, load_prompt, shipped

GREETING = Prompt("greeting", "2", "Hello {{name}}, you are {{age}}. Bye {{name}}!")


def test_slots_are_filled_in_wherever_they_stand() -> None:
    assert GREETING.render(name="Ada", age="36") == "Hello Ada, you are 36. Bye Ada!"


@given(st.text(), st.text())
def test_a_value_is_put_in_as_it_is(name: str, age: str) -> None:
    assert GREETING.render(name=name, age=age) == f"Hello {name}, you are {age}. Bye {name}!"


def test_a_value_opens_no_slot() -> None:
    assert GREETING.render(name="{{age}}", age=r"\1") == r"Hello {{age}}, you are \1. Bye {{age}}!"


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        ({}, "age, name"),
        ({"name": "Ada"}, "age"),
        ({"name": "Ada", "age": "1", "town": "x"}, "town"),
    ],
)
def test_slots_and_values_must_agree(values: dict[str, str], odd: str) -> None:
    with pytest.raises(InvalidInputError, match=f"greeting 2: slots and values differ: {odd}$"):
        GREETING.render(**values)


def test_the_hash_is_of_the_text_alone() -> None:
    assert GREETING.hash == hashlib.sha256(GREETING.text.encode()).hexdigest()[:16]
    assert GREETING.hash == Prompt("other", "9", GREETING.text).hash
    assert GREETING.hash != Prompt("greeting", "2", GREETING.text + " ").hash
    assert GREETING.identity == ("greeting", "2", GREETING.hash)


def test_a_hosts_own_template(tmp_path: Path) -> None:
    path = tmp_path / "my.prompt.12.md"
    path.write_text("Grüße, {{name}}", encoding="utf-8")
    prompt = load_prompt(path)
    assert (prompt.id, prompt.version) == ("my.prompt", "12")
    assert prompt.render(name="x") == "Grüße, x"


@pytest.mark.parametrize("name", ["noversion.md", "absent.1.md"])
def test_a_file_that_is_no_template(tmp_path: Path, name: str) -> None:
    (tmp_path / "noversion.md").write_text("x")
    with pytest.raises(ConfigurationError, match=r"named <id>\.<version>\.md"):
        load_prompt(tmp_path / name)


@pytest.mark.parametrize(
    ("step", "slots"),
    [
        ("research", {"count"}),
        ("generate", set()),
        ("review", {"analysis"}),
        ("refine", {"analysis", "review"}),
    ],
)
def test_the_bills_templates_take_what_the_pipeline_gives(step: str, slots: set[str]) -> None:
    prompt: Prompt = getattr(BILL.prompts, step)
    values = {name: f"<{name}>" for name in {"title", "jurisdiction", "material"} | slots}
    text = prompt.render(**values)
    assert all(value in text for value in values.values())
    assert prompt is shipped(f"bill_{step}", "1")
