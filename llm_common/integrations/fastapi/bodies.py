"""How OpenAPI shows the body of a submission, which is read by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ...enrichment import EnrichmentRequest, PipelineConfig
from ...types import Frozen
from .uploads import JobBody

SERVERS = ("enable_state_persistence", "state_persistence_path")
"""What a client may not set."""


def schema_of(model: type[Frozen]) -> dict[str, Any]:
    """Return the JSON schema of a model, in one piece."""
    whole = model.model_json_schema()
    definitions: Mapping[str, Any] = whole.pop("$defs", {})
    return cast("dict[str, Any]", _inlined(whole, definitions))


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("dict[str, Any]", schema)
    if isinstance(name := given.get("$ref"), str):
        return _inlined(definitions[name.rpartition("/")[2]], definitions)
    inner = {key: _inlined(one, definitions) for key, one in given.items()}
    if inner.get("title") == "Columns To Enrich":
        # A column may be written as text: `phone:phone`.
        inner["items"] = {"anyOf": [inner["items"], {"type": "string", "minLength": 1}]}
    if inner.get("title") == "PipelineConfig":
        for name in SERVERS:
            inner["properties"].pop(name)
    return inner


SUBMISSION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": schema_of(JobBody)},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "request"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "A table: .csv, .tsv, .xlsx, .ods, .parquet …",
                        },
                        "request": schema_of(EnrichmentRequest),
                        "config": schema_of(PipelineConfig),
                    },
                },
                "encoding": {
                    "request": {"contentType": "application/json"},
                    "config": {"contentType": "application/json"},
                },
            },
        },
    }
}
