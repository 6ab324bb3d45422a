"""The page as files: nothing from elsewhere, nothing as markup, colours that can be read."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from tests.support import REPOSITORY

PAGE = files("llm_common.integrations.fastapi.page")
NAMES = ("index.html", "page.js", "page.css")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_markup_and_nothing_comes_from_elsewhere(name: str) -> None:
    text = PAGE.joinpath(name).read_text(encoding="utf-8")
    forbidden = [
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(",
        "createContextualFragment", "DOMParser", "setHTML", "srcdoc", "javascript:", "style=",
        "onclick=", "onerror", "@import", "url(", "//cdn", "http://", "https://",
    ]  # fmt: skip
    assert [word for word in forbidden if word in text] == []


def colours(text: str) -> list[dict[str, str]]:
    """Return the variables of the light and of the dark scheme."""
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", text, re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in (light, dark)]
    assert found[0].keys() == found[1].keys()
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("front", "back"),
    [
        ("text", "ground"), ("text", "sheet"), ("quiet", "ground"), ("quiet", "sheet"),
        ("accent", "ground"), ("accent", "sheet"), ("on-accent", "accent"), ("bad", "ground"),
        ("good", "good-ground"), ("doubt", "doubt-ground"), ("bad", "bad-ground"),
    ],
)  # fmt: skip
def test_text_can_be_read(front: str, back: str) -> None:
    """By WCAG 2.2, AA."""
    for scheme in colours(PAGE.joinpath("page.css").read_text(encoding="utf-8")):
        high, low = sorted((luminance(scheme[front]), luminance(scheme[back])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_it_is_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())
    assert {f"llm_common/integrations/fastapi/page/{name}" for name in NAMES} <= held
