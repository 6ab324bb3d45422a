"""The default model, `offline/extractive`: deterministic, and it only says what the prompt holds.

It answers questions with sentences of the prompt's own material, and any JSON schema with values
made of them. Material is what stands in `<source id="…" title="…" url="…">` marks; without marks
it is what the user wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .filling import Filler
from .material import MAX_LENGTH, Material, Source, prepare, read_sources, words
from .question import Question, Schema, Tool, count_tokens

MODEL = "offline/extractive"
SENTENCES = 3
LENGTHS = (MAX_LENGTH, 120, 60, 25)
"""Sentence lengths to try, until a JSON answer fits `max_tokens`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the model says: text, or the arguments of one tool."""

    text: str = ""
    tool: str | None = None
    arguments: Mapping[str, Any] | None = None
    cut: bool = False

    @property
    def size(self) -> str:
        """All that was written, for counting tokens."""
        return self.text if self.arguments is None else write_json(self.arguments)


def answer(question: Question) -> Draft:
    """Answer a question: with a tool call, with JSON, or with a few sentences."""
    if tool := chosen_tool(question):
        arguments = _structured(question, tool.parameters)
        return Draft(tool=tool.name, arguments=arguments)
    schema = question.schema or (_told_schema(question) if question.json_object else None)
    if schema is None and not question.json_object:
        return _limited(_sentences(question), question.max_tokens)
    fields = _structured(question, schema or {"properties": {"answer": {"type": "string"}}})
    return _limited(write_json(fields), question.max_tokens)


def chosen_tool(question: Question) -> Tool | None:
    """Return the tool to call: the forced one, or the only one until it has answered."""
    if question.forced:
        named = [t for t in question.tools if t.name == question.forced]
        return next(iter(named or question.tools), None)
    answered = bool(question.turns) and question.turns[-1].role == "tool"
    if question.schema is None and len(question.tools) == 1 and not answered:
        return question.tools[0]
    return None


def write_json(value: Any) -> str:
    """Write compact JSON, as models do."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def material_of(question: Question) -> Material:
    """Return what the model may draw on."""
    marked = read_sources([turn.text for turn in question.turns])
    if marked:
        return _prepared(marked)
    spoken = [t.text for t in question.turns if t.role in ("user", "tool") and t.text.strip()]
    return _prepared(tuple(Source(str(n), "", "", t) for n, t in enumerate(spoken, start=1)))


@lru_cache(maxsize=64)
def _prepared(sources: tuple[Source, ...]) -> Material:
    return prepare(sources)


def _structured(question: Question, schema: Schema) -> Any:
    """Fill the schema, with ever shorter sentences until the answer fits `max_tokens`."""
    value: Any = None
    for length in LENGTHS:
        value = Filler(material_of(question), schema, length).fill(schema)
        if not question.max_tokens or count_tokens(write_json(value)) <= question.max_tokens:
            break
    return value


def _sentences(question: Question) -> str:
    material, used = material_of(question), set[int]()
    asked = next((t.text for t in reversed(question.turns) if t.role == "user"), "")
    topic = words(asked[-500:])
    for _ in range(SENTENCES):
        if (best := material.best(topic, used=used)) and best.index not in used:
            used.add(best.index)
    said = [material.sentences[i].text for i in sorted(used)]
    return " ".join(said) or "There is no material to answer from."


def _limited(text: str, max_tokens: int | None) -> Draft:
    if not max_tokens or count_tokens(text) <= max_tokens:
        return Draft(text=text)
    kept = text.encode()[: 4 * max_tokens].decode(errors="ignore")
    return Draft(text=kept, cut=True)


def _told_schema(question: Question) -> Schema | None:
    """Find the JSON schema that a prompt spells out, as it must where only JSON mode exists."""
    decoder = json.JSONDecoder()
    for turn in question.turns:
        start = turn.text.find("{")
        while start >= 0:
            try:
                found, _ = decoder.raw_decode(turn.text, start)
            except json.JSONDecodeError:
                found = None
            if isinstance(found, dict) and "properties" in found:
                return found  # pyright: ignore[reportUnknownVariableType]
            start = turn.text.find("{", start + 1)
    return None
