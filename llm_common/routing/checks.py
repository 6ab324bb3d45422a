"""What a host's registry file may say; anything else is refused with its key and line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
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
    "limits": dict,
    "ceiling": dict,
}
_QUIRK = {"match": str, "drop": list, "rename": dict, "extra": dict, "default_max_tokens": int}
_MODEL = {
    "context": int,
    "max_output": int,
    "aliases": list,
    "at": dict,
    "limits": dict,
    "ceiling": dict,
}
_LIMITS = ("rpm", "tpm", "max_concurrent")
_CEILING = ("input_usd_per_million", "output_usd_per_million")
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
        _check_money_and_rates(table, f"models.{name}", path)
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
    line = _line_of(path, key)
    place = f"{path}, line {line}" if line else path
    return ConfigurationError(f"{place}: {key} {problem}")


def _check_provider(table: Table, where: str, path: str) -> None:
    _check_keys(table, _PROVIDER, where, path)
    _check_money_and_rates(table, where, path)
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


def _check_money_and_rates(table: Table, where: str, path: str) -> None:
    limits = table.get("limits", {})
    _check_keys(limits, dict.fromkeys(_LIMITS, int), f"{where}.limits", path)
    for key, value in limits.items():
        if value < 1:
            raise malformed(path, f"{where}.limits.{key}", "must be 1 or more")
    if "ceiling" in table:
        _check_ceiling(table["ceiling"], f"{where}.ceiling", path)


def _check_ceiling(ceiling: Table, where: str, path: str) -> None:
    for key in (*_CEILING, *ceiling):
        if key not in _CEILING:
            raise malformed(path, f"{where}.{key}", f"is unknown: use {', '.join(_CEILING)}")
        if key not in ceiling:
            raise malformed(path, where, f"needs {key}")
        if usd_per_million(ceiling[key]) is None:
            raise malformed(path, f"{where}.{key}", "must be USD, 0 or more, such as 2 or '0.15'")


def usd_per_million(value: object) -> Decimal | None:
    """Read an amount exactly: an integer, a text, or a float as the number that it prints."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


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
            kind = "a table" if known[key] is dict else f"of type {known[key].__name__}"
            raise malformed(path, f"{where}.{key}", f"must be {kind}")
        if key in _NAMES:
            _check_names(value, f"{where}.{key}", path)


def _check_names(names: list[Any], where: str, path: str) -> None:
    if not all(isinstance(name, str) for name in names):
        raise malformed(path, where, "must list names")


def _line_of(path: str, key: str) -> int | None:
    """Find the line that writes a key: tomllib keeps no positions."""
    word = re.compile(rf"(?<![\w-]){re.escape(key.rsplit('.', 1)[-1])}(?![\w-])")
    lines = list(enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1))
    section, inline = "", None
    for number, line in lines:
        text = line.split("#")[0].replace('"', "").replace("'", "")
        header = re.match(r"\s*\[+([^\]]+)\]", text)
        section = re.sub(r"\s", "", header[1]) if header else section
        name = "" if header else text.split("=")[0].strip()
        place = ".".join(part for part in (section, name) if part)
        if place == key:
            return number
        if inline is None and key.startswith(f"{place}.") and word.search(text):
            inline = number
    return inline or next((number for number, line in lines if word.search(line)), None)
