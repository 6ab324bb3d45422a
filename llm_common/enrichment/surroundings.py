"""Does what stands around a value name the rest of what a row is known by: its state, its city."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .naming import Key, named_state
from .ownership import Asked, Owner, is_about, segment_of
from .page_text import PageText, named
from .states import NAMES, only_state, states_in

_STATE_HOST = re.compile(r"(?:^|\.)([a-z]{2})\.(?:gov|us)$|\.([a-z]{2})\.us$")
_MENU = 3
"""So many states in a row are a menu, not a heading."""


def primary_of(keys: tuple[Key, ...]) -> Key:
    """Return the key that owns a row's values: a person, else a thing, else the first."""
    for kind in ("person", "thing"):
        for key in keys:
            if key.kind == kind:
                return key
    return keys[0]


def unnamed(
    asked: Asked, owner: Owner, keys: tuple[Key, ...], page: Mapping[str, Any]
) -> str | None:
    """Return why the surroundings do not name a row's other keys; None if they do."""
    for key in keys:
        if key is asked.key:
            continue
        check = _no_state if key.kind == "state" else _no_thing
        if reason := check(asked, owner, key, page):
            return reason
    return None


def _no_thing(asked: Asked, owner: Owner, key: Key, _page: Mapping[str, Any]) -> str | None:
    text = asked.page
    near = {asked.unit, asked.unit if owner.unit is None else owner.unit}
    places = [text.units[number].text for number in sorted(near)]
    if any(named(key, place)[0] for place in places):
        return None
    if any(named(key, place)[1] for place in places) and key.kind == "number":
        return f"names another {' '.join(sorted(key.labels))} than {key.value}"
    wider = [text.units[number].text for number in segment_of(asked, owner)]
    if is_about(text, asked.key):
        wider += [unit.text for unit in text.units]
    if any(named(key, place)[0] for place in (text.title, *wider)):
        return None
    return f"nothing near it names {key.value}"


def _no_state(asked: Asked, owner: Owner, key: Key, page: Mapping[str, Any]) -> str | None:
    """The nearest word on the state counts; where there is none, all that the page says."""
    text, nothing = asked.page, f"nothing near it names {key.value}"
    near = {asked.unit, asked.unit if owner.unit is None else owner.unit}
    levels = [
        _states("\n".join(text.units[number].text for number in sorted(near))),
        _section_state(text, min(near)),
    ]
    for states in levels:
        if states:
            return None if states == {key.state} else _another(states, key)
    title = _states(text.title)
    host = _host_state(str(page.get("url") or ""))
    around = _states("\n".join(text.units[n].text for n in segment_of(asked, owner)))
    if other := (title | host) - {key.state}:
        return _another(other, key)
    if around and key.state not in around:
        return _another(around, key)
    if key.state in title | host or around == {key.state}:
        return None
    return None if named_state(text.text) == key.state else nothing


def _another(states: set[str], key: Key) -> str:
    others = ", ".join(NAMES[state] for state in sorted(states - {key.state}))
    return f"names {others}, not {NAMES[key.state]} alone"


def _states(text: str) -> set[str]:
    return {code for code, _, _ in states_in(text)}


def _section_state(text: PageText, below: int) -> set[str]:
    """Return the state of the nearest heading above that is a state and nothing else."""
    for number in range(below - 1, -1, -1):
        if state := only_state(text.units[number].text):
            run = text.units[max(0, number - _MENU + 1) : number + 1]
            if sum(only_state(unit.text) is not None for unit in run) < _MENU:
                return {state}
    return set()


def _host_state(url: str) -> set[str]:
    match = _STATE_HOST.search(urlsplit(url).hostname or "")
    code = (match[1] or match[2] or "").upper() if match else ""
    return {code} & NAMES.keys()
