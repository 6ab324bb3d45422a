"""What a host's registry file may say; anything else is refused with its key and line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import ConfigurationError
from .models import LLMTask

Table = Mapping[str, Any]

_PROVIDER = {
    "wire": str,
    "base_url": str,
    "key_env": str,
    "keyless": bool,
    "any_model": bool,
    "structured": str,
    "extra": dict,
    "quirks": list,
}
_QUIRK = {"match": str, "drop": list, "rename": dict, "extra": dict, "default_max_tokens": int}
_MODEL = {"context": int, "max_output": int, "aliases": list, "at": dict}
_NAMES = ("drop", "aliases")
_CHOICES = {"wire": ("openai", "litellm"), "structured": ("json_schema", "tools", "json")}


def check(tables: Table, path: str) -> None:
    """Refuse keys that the registry doesn't know and values of the wrong kind.

    Raises:
        ConfigurationError: names the key and, where it can be found, the line.
    """
    for section in tables:
        if section not in ("providers", "models", "tasks"):
            raise malformed(path, section, "is not a section: use providers, models or tasks")
    for name, table in _tables(tables, "providers", path):
        _check_provider(table, f"providers.{name}", path)
    for name, table in _tables(tables, "models", path):
        _check_keys(table, _MODEL, f"models.{name}", path)
        at = table.get("at", {})
        _check_keys(at, dict.fromkeys(at, str), f"models.{name}.at", path)
    for name, table in _tables(tables, "tasks", path):
        if name not in tuple(LLMTask):
            raise malformed(path, f"tasks.{name}", f"is no task: use one of {', '.join(LLMTask)}")
        _check_keys(table, dict.fromkeys(table, list), f"tasks.{name}", path)
        for provider, names in table.items():
            _check_names(names, f"tasks.{name}.{provider}", path)


def malformed(path: str, key: str, problem: str) -> ConfigurationError:
    """Make the error for a key of the file."""
    line = _line_of(path, key.rsplit(".", 1)[-1])
    place = f"{path}, line {line}" if line else path
    return ConfigurationError(f"{place}: {key} {problem}")


def _check_provider(table: Table, where: str, path: str) -> None:
    _check_keys(table, _PROVIDER, where, path)
    for key, allowed in _CHOICES.items():
        if key in table and table[key] not in allowed:
            raise malformed(path, f"{where}.{key}", f"must be {' or '.join(allowed)}")
    for quirk in table.get("quirks", ()):
        _check_keys(quirk, _QUIRK, f"{where}.quirks", path)
        if "match" not in quirk:
            raise malformed(path, f"{where}.quirks", "needs match, a regular expression")
        try:
            re.compile(quirk["match"])
        except re.error as error:
            problem = f"is no regular expression: {error}"
            raise malformed(path, f"{where}.quirks.match", problem) from error


def _tables(tables: Table, section: str, path: str) -> list[tuple[str, Table]]:
    found = tables.get(section, {})
    if not isinstance(found, dict):
        raise malformed(path, section, "must be a table")
    named = cast("dict[str, Any]", found)
    for name, table in named.items():
        if not isinstance(table, dict):
            raise malformed(path, f"{section}.{name}", "must be a table")
    return list(named.items())


def _check_keys(table: Any, known: Mapping[str, type], where: str, path: str) -> None:
    if not isinstance(table, dict):
        raise malformed(path, where, "must be a table")
    for key, value in cast("dict[str, Any]", table).items():
        if key not in known:
            raise malformed(path, f"{where}.{key}", f"is unknown: use {', '.join(known)}")
        if type(value) is not known[key]:
            raise malformed(path, f"{where}.{key}", f"must be of type {known[key].__name__}")
        if key in _NAMES:
            _check_names(value, f"{where}.{key}", path)


def _check_names(names: list[Any], where: str, path: str) -> None:
    if not all(isinstance(name, str) for name in names):
        raise malformed(path, where, "must list names")


def _line_of(path: str, key: str) -> int | None:
    """Find the line that writes a key: tomllib keeps no positions."""
    word = rf"(?<![\w-]){re.escape(key)}(?![\w-])"
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for pattern in (rf"^[^=#]*{word}", rf"^[^#]*{word}"):
        for number, line in enumerate(lines, 1):
            if re.search(pattern, line):
                return number
    return None
