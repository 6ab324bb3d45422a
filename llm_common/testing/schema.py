"""Reading JSON schemas: references, unions and bounds, reduced to one plain kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from .question import Schema


def resolve(schema: Any, root: Schema) -> dict[str, Any]:
    """Follow `$ref`, merge `allOf`, and choose the first alternative that is not null."""
    node = dict(cast("Schema", schema)) if isinstance(schema, Mapping) else {}
    while True:
        if "$ref" in node:
            node = {**_lookup(node.pop("$ref"), root), **node}
        elif "allOf" in node:
            for part in node.pop("allOf"):
                node = _merge(node, resolve(part, root))
        elif "anyOf" in node or "oneOf" in node:
            options = node.pop("anyOf", None) or node.pop("oneOf")
            node = {**node, **resolve(_first_option(options, root), root)}
        else:
            return node


def _lookup(reference: str, root: Schema) -> dict[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {})
    return dict(found)


def _merge(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    merged = {**left, **right}
    for key in ("properties", "$defs"):
        if key in left and key in right:
            merged[key] = {**left[key], **right[key]}
    if "required" in left and "required" in right:
        merged["required"] = [*left["required"], *right["required"]]
    return merged


def _first_option(options: list[Any], root: Schema) -> Any:
    real = [o for o in options if not is_null(resolve(o, root))]
    return real[0] if real else {"type": "null"}


def is_null(node: Schema) -> bool:
    """Whether only null fits."""
    return node.get("type") == "null" or node.get("const", 0) is None or node.get("enum") == [None]


def kind(node: Schema) -> str:
    """Return the JSON type to answer with; an untyped schema is told by its keywords."""
    declared: Any = node.get("type")
    if isinstance(declared, list):
        named = cast("list[str]", declared)
        declared = next((t for t in named if t != "null"), "null")
    if declared:
        return str(declared)
    if "properties" in node:
        return "object"
    if "items" in node or "prefixItems" in node:
        return "array"
    return "string"


def number(node: Schema, name: str) -> int | float:
    """Return a number inside the bounds: 0.8 of the way where both are given."""
    whole = kind(node) == "integer"
    step: float = node.get("multipleOf", 1 if whole else 0)
    low, high = _bounds(node, step)
    if low is None and high is None and _is_share(name):
        low, high = 0.0, 1.0
    value = _inside(low, high)
    if step:
        value = _on_step(value, step, low, high)
    return round(value) if whole else value


def _is_share(name: str) -> bool:
    return any(part in name.lower() for part in ("confidence", "probability", "score", "share"))


def _bounds(node: Schema, step: float) -> tuple[float | None, float | None]:
    low: float | None = node.get("minimum")
    high: float | None = node.get("maximum")
    nudge = step or 1e-6
    above: float | None = node.get("exclusiveMinimum")
    below: float | None = node.get("exclusiveMaximum")
    if above is not None:
        low = above + nudge if low is None else max(low, above + nudge)
    if below is not None:
        high = below - nudge if high is None else min(high, below - nudge)
    return low, high


def _inside(low: float | None, high: float | None) -> float:
    if low is not None and high is not None:
        return round(low + 0.8 * (high - low), 6) if high > low else low
    if low is not None:
        return max(low, 1.0)
    return min(high, 1.0) if high is not None else 1.0


def _on_step(value: float, step: float, low: float | None, high: float | None) -> float:
    stepped = math.floor(value / step) * step
    if low is not None and stepped < low:
        stepped = math.ceil(low / step) * step
    if high is not None and stepped > high:
        stepped = math.floor(high / step) * step
    return round(stepped, 9)
