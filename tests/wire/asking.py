"""Recorded requests, said again as a caller of `LLMClient` says them: in OpenAI's terms."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llm_common.routing import Registry

from .billing import requested_model
from .replay import Exchange

Body = dict[str, Any]
KNOWN = {"messages", "model", "stream", "stream_options", "tools", "tool_choice", "max_tokens"}

# VALIDATED has no word in OpenAI's terms: it is AUTO with checked arguments.
GEMINI_CHOICES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}


@dataclass(frozen=True)
class Call:
    """Arguments of `chat`, `complete` or `stream`."""

    messages: list[Body]
    options: Body = field(default_factory=dict)


def call_of(exchange: Exchange) -> Call:
    """Say a recorded chat request again."""
    request = exchange["request"]
    if exchange["api"] == "anthropic-messages":
        return anthropic_call(request)
    if exchange["api"].startswith("gemini"):
        return gemini_call(request)
    return openai_call(request)


def openai_call(request: Body) -> Call:
    options = {key: request[key] for key in ("tools", "tool_choice") if request.get(key)}
    limit = request.get("max_tokens") or request.get("max_completion_tokens")
    extra = {
        key: value
        for key, value in request.items()
        if key not in KNOWN | {"max_completion_tokens"} and value is not None
    }
    return Call(request["messages"], {**options, "max_tokens": limit, "extra": extra})


def anthropic_call(request: Body) -> Call:
    system = [{"role": "system", "content": request["system"]}] if request.get("system") else []
    messages = [said for m in request["messages"] for said in _anthropic_message(m)]
    extra = {key: value for key, value in request.items() if key not in KNOWN | {"system"}}
    if stop := extra.pop("stop_sequences", None):
        extra["stop"] = stop
    options: Body = {"max_tokens": request["max_tokens"], "extra": extra}
    if request.get("tools"):
        options["tools"] = [_anthropic_tool(tool) for tool in request["tools"]]
    if choice := request.get("tool_choice"):
        options["tool_choice"] = _anthropic_choice(choice)
    return Call([*system, *messages], options)


def _anthropic_tool(tool: Body) -> Body:
    if "input_schema" not in tool:
        return tool
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    function |= {key: tool[key] for key in ("description", "strict") if key in tool}
    beside = {
        k: tool[k] for k in ("cache_control", "defer_loading", "allowed_callers") if k in tool
    }
    return {"type": "function", "function": function, **beside}


def _anthropic_choice(choice: Body) -> Any:
    if choice["type"] == "tool":
        return {"type": "function", "function": {"name": choice["name"]}}
    return {"any": "required"}.get(choice["type"], choice["type"])


def _anthropic_message(message: Body) -> list[Body]:
    content = message["content"]
    if isinstance(content, str):
        return [message]
    results = [
        {"role": "tool", "tool_call_id": block["tool_use_id"], "content": _anthropic_result(block)}
        for block in content
        if block["type"] == "tool_result"
    ]
    if message["role"] == "assistant":
        return [_anthropic_answer(content)]
    rest = [_anthropic_part(block) for block in content if block["type"] != "tool_result"]
    return [*results, *([{"role": message["role"], "content": rest}] if rest else [])]


def _anthropic_result(block: Body) -> Any:
    content = block.get("content", "")
    return content if isinstance(content, str) else [_anthropic_part(part) for part in content]


def _anthropic_answer(content: list[Body]) -> Body:
    said: Body = {"role": "assistant", "content": ""}
    said["content"] = "".join(b["text"] for b in content if b["type"] == "text")
    if calls := [b for b in content if b["type"] == "tool_use"]:
        said["tool_calls"] = [_call(b["id"], b["name"], b["input"]) for b in calls]
    if thoughts := [b for b in content if b["type"].endswith("thinking")]:
        said["thinking_blocks"] = thoughts
    return said


def _anthropic_part(block: Body) -> Body:
    source = block.get("source") or {}
    if block["type"] == "image":
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    if block["type"] == "document" and source["type"] == "base64":
        data = f"data:{source['media_type']};base64,{source['data']}"
        return {"type": "file", "file": {"file_data": data}}
    if block["type"] == "container_upload":
        return {"type": "file", "file": {"file_id": block["file_id"]}}
    return block


def _call(call_id: str, name: str, arguments: Any) -> Body:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def gemini_call(request: Body) -> Call:
    config = request["generationConfig"]
    system = (request.get("systemInstruction") or {}).get("parts", ())
    messages = [{"role": "system", "content": part["text"]} for part in system]
    for number, content in enumerate(request["contents"]):
        messages += _gemini_message(content, number)
    options: Body = {"extra": _gemini_extra(config), "max_tokens": config.get("maxOutputTokens")}
    if "temperature" in config:
        options["temperature"] = config["temperature"]
    if request.get("tools"):
        options["tools"] = [tool for group in request["tools"] for tool in _gemini_tools(group)]
    calling = (request.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if calling:
        options["tool_choice"] = GEMINI_CHOICES[calling["mode"]]
    return Call(messages, options)


def _gemini_extra(config: Body) -> Body:
    extra: Body = {}
    if "stopSequences" in config:
        extra["stop"] = config["stopSequences"]
    if thinking := config.get("thinkingConfig"):
        extra["thinkingConfig"] = thinking
    if schema := config.get("responseJsonSchema"):
        wrapped = {"name": "answer", "schema": schema}
        extra["response_format"] = {"type": "json_schema", "json_schema": wrapped}
    elif config.get("responseMimeType") == "application/json":
        extra["response_format"] = {"type": "json_object"}
    return extra


def _gemini_tools(group: Body) -> list[Body]:
    if "functionDeclarations" not in group:
        return [group]
    return [
        {
            "type": "function",
            "function": {
                "name": declared["name"],
                "description": declared.get("description", ""),
                "parameters": declared.get("parametersJsonSchema")
                or declared.get("parameters_json_schema")
                or declared.get("parameters"),
            },
        }
        for declared in group["functionDeclarations"]
    ]


def _gemini_message(content: Body, number: int) -> list[Body]:
    parts = content["parts"]
    if content["role"] == "model":
        said: Body = {"role": "assistant"}
        said["content"] = "".join(p["text"] for p in parts if "text" in p and not p.get("thought"))
        calls = [p for p in parts if "functionCall" in p]
        if calls:
            said["tool_calls"] = [_gemini_tool_call(p, number, i) for i, p in enumerate(calls)]
        return [said]
    results = [p["functionResponse"] for p in parts if "functionResponse" in p]
    tools = [
        {
            "role": "tool",
            "tool_call_id": f"call_{number - 1}_{index}",
            "name": result["name"],
            "content": json.dumps(result["response"]),
        }
        for index, result in enumerate(results)
    ]
    rest = [_gemini_part(part) for part in parts if "functionResponse" not in part]
    return [*tools, *([{"role": "user", "content": rest}] if rest else [])]


def _gemini_tool_call(part: Body, number: int, index: int) -> Body:
    function = part["functionCall"]
    call = _call(f"call_{number}_{index}", function["name"], function.get("args") or {})
    if "thoughtSignature" in part:
        call["provider_specific_fields"] = {"thought_signature": part["thoughtSignature"]}
    return call


def _gemini_part(part: Body) -> Body:
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if data := part.get("inlineData"):
        url = f"data:{data['mimeType']};base64,{data['data']}"
        kind = "image_url" if data["mimeType"].startswith("image/") else "file"
        held = {"url": url} if kind == "image_url" else {"file_data": url}
        return {"type": kind, kind: held}
    file = part["fileData"]
    named = {"file_id": file["fileUri"], "format": file["mimeType"]}
    return {"type": "file", "file": named}


def registry_of(exchanges: Iterable[Exchange], known: Registry) -> str:
    """Write a host's registry file that names the recorded models which the shipped one lacks."""
    lines: list[str] = []
    for provider, model in sorted({(e["provider"], requested_model(e)) for e in exchanges}):
        if model not in known.models[provider]:
            lines += [
                f'[models."{provider}:{model}"]',
                "context = 1_000_000",
                "max_output = 64_000",
                f'aliases = ["{model}"]',
                f'at = {{ {provider} = "{model}" }}',
            ]
    return "\n".join(lines)
