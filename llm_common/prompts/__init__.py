"""Prompt templates in files, each with an id, a version and the hash of its content.

A template is `<id>.<version>.md`; `{{name}}` stands for a value. The hash pins what was sent: a
template that changes without a new version is told apart in the ledger.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from ..errors import ConfigurationError, InvalidInputError

_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template and its identity."""

    id: str
    version: str
    text: str

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def identity(self) -> tuple[str, str, str]:
        """Id, version and hash, as the ledger keeps them."""
        return self.id, self.version, self.hash

    def render(self, **values: str) -> str:
        """Fill the slots in.

        Raises:
            InvalidInputError: a slot without a value, or a value without a slot.
        """
        slots = set(_SLOT.findall(self.text))
        if slots != values.keys():
            odd = ", ".join(sorted(slots ^ values.keys()))
            raise InvalidInputError(
                f"prompt {self.id} {self.version}: slots and values differ: {odd}"
            )
        return _SLOT.sub(lambda match: values[match[1]], self.text)


def load_prompt(path: Path) -> Prompt:
    """Read a host's own template, named `<id>.<version>.md`.

    Raises:
        ConfigurationError: the file is absent or its name has no version.
    """
    prompt_id, _, version = path.stem.rpartition(".")
    if not prompt_id or not path.is_file():
        raise ConfigurationError(f"{path} is not a prompt template named <id>.<version>.md")
    return Prompt(prompt_id, version, path.read_text(encoding="utf-8"))


@lru_cache
def shipped(prompt_id: str, version: str) -> Prompt:
    """Return a template of this library."""
    text = (files(__name__) / f"{prompt_id}.{version}.md").read_text(encoding="utf-8")
    return Prompt(prompt_id, version, text)
