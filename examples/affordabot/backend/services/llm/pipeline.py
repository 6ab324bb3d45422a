"""Analysis of a bill by two models: one writes it, another one reviews it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from typing import Any

import httpx
import openai
from pydantic import BaseModel

from ..research.zai import ZaiResearchService

logger = logging.getLogger("affordabot.pipeline")

OPENROUTER_URL = "https://openrouter.ai/api/v1"

# In order of preference. The last ones are there for bad days.
GENERATOR_MODELS = [
    "openai/gpt-4-turbo",
    "anthropic/claude-3-opus",
    "mistralai/mistral-large",
]
REVIEWER_MODELS = [
    "anthropic/claude-3-opus",
    "openai/gpt-4-turbo",
]

MAX_RETRIES = 3
RETRY_DELAY = 1.0
MAX_ROUNDS = 2
# More does not fit into the smallest of the models above.
MAX_BILL_CHARS = 24_000

ANALYSIS_SCHEMA = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "impacts": {
            "type": "array",
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string"},
                    "description": {"type": "string"},
                    "evidence": {"type": "string"},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
        },
    },
}

REVIEW_SCHEMA = {
    "type": "object",
    "properties": {
        "passed": {"type": "boolean"},
        "critique": {"type": "string"},
        "missing_impacts": {"type": "array", "default": [], "items": {"type": "string"}},
        "factual_errors": {"type": "array", "default": [], "items": {"type": "string"}},
    },
}

SYSTEM_PROMPT = (
    "You are an expert in legislation and household finance. Answer with JSON only, "
    "matching this schema:\n{schema}"
)

GENERATE_PROMPT = """Analyze how this bill affects the cost of living.

Bill: {bill_number}
Jurisdiction: {jurisdiction}

{bill_text}

What the web says about it:
{research}
"""

REVIEW_PROMPT = """Review this analysis of bill {bill_number}.
Fail it if facts are wrong or missing.

The analysis:
{analysis}

The bill:
{bill_text}
"""

REFINE_PROMPT = """Revise your analysis of bill {bill_number}.

The analysis:
{analysis}

The critique:
{critique}

The bill:
{bill_text}
"""


class AnalysisError(Exception):
    """No model gave an answer that could be used."""


class LegislationImpact(BaseModel):
    """An impact, as the model wrote it."""

    title: str
    description: str
    evidence: str
    confidence: float


class LegislationAnalysis(BaseModel):
    """What came out, and the tokens that went in."""

    summary: str
    impacts: list[LegislationImpact]
    review_passed: bool
    prompt_tokens: int
    completion_tokens: int


class DualModelAnalyzer:
    """Generates with one model, reviews with another, and refines until the review passes."""

    def __init__(self, research: ZaiResearchService | None = None) -> None:
        self.client = openai.AsyncOpenAI(
            api_key=os.getenv("OPENROUTER_API_KEY", ""),
            base_url=os.getenv("OPENROUTER_BASE_URL", OPENROUTER_URL),
            timeout=60.0,
        )
        self.research = research or ZaiResearchService()

    async def analyze(
        self,
        bill_text: str,
        bill_number: str,
        jurisdiction: str,
        title: str = "",
        model_override: str | None = None,
    ) -> LegislationAnalysis:
        """Analyze one bill.

        Raises AnalysisError when every model failed.
        """
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        bill_text = bill_text[:MAX_BILL_CHARS]
        generators = [model_override, *GENERATOR_MODELS] if model_override else GENERATOR_MODELS
        found = await self.research.research_bill(title or bill_number)
        prompt = GENERATE_PROMPT.format(
            bill_number=bill_number,
            jurisdiction=jurisdiction,
            bill_text=bill_text,
            research=self._format_research(found),
        )
        analysis = await self._ask(generators, prompt, ANALYSIS_SCHEMA, usage)
        passed = False
        for _ in range(MAX_ROUNDS):
            review = await self._review(bill_number, bill_text, analysis, usage)
            passed = bool(review.get("passed"))
            if passed:
                break
            prompt = REFINE_PROMPT.format(
                bill_number=bill_number,
                analysis=json.dumps(analysis),
                critique=review.get("critique", ""),
                bill_text=bill_text,
            )
            analysis = await self._ask(generators, prompt, ANALYSIS_SCHEMA, usage)
        return self._to_result(analysis, passed, usage)

    async def _review(
        self, bill_number: str, bill_text: str, analysis: dict[str, Any], usage: dict[str, int]
    ) -> dict[str, Any]:
        prompt = REVIEW_PROMPT.format(
            bill_number=bill_number, analysis=json.dumps(analysis), bill_text=bill_text
        )
        try:
            return await self._ask(REVIEWER_MODELS, prompt, REVIEW_SCHEMA, usage)
        except AnalysisError:
            # An analysis without a review is better than none.
            logger.warning("no review of %s", bill_number)
            return {"passed": True, "critique": ""}

    async def _ask(
        self, models: list[str], prompt: str, schema: dict[str, Any], usage: dict[str, int]
    ) -> dict[str, Any]:
        """Ask one model after the other until an answer can be read."""
        messages: list[Any] = [
            {"role": "system", "content": SYSTEM_PROMPT.format(schema=json.dumps(schema))},
            {"role": "user", "content": prompt},
        ]
        for model in models:
            for attempt in range(MAX_RETRIES):
                try:
                    response = await self.client.chat.completions.create(
                        model=model,
                        messages=messages,
                        temperature=0.2,
                        max_tokens=2000,
                        response_format={"type": "json_object"},
                    )
                    if response.usage:
                        usage["prompt_tokens"] += response.usage.prompt_tokens
                        usage["completion_tokens"] += response.usage.completion_tokens
                    return self._parse_json(response.choices[0].message.content or "")
                except (openai.OpenAIError, httpx.HTTPError, ValueError, IndexError):
                    logger.warning("%s failed, attempt %d", model, attempt + 1)
                    await asyncio.sleep(RETRY_DELAY * attempt)
            logger.error("giving up on %s", model)
        raise AnalysisError("all models failed")

    def _parse_json(self, text: str) -> dict[str, Any]:
        """Find the JSON in what the model said."""
        text = text.strip()
        fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
        if fenced:
            text = fenced.group(1)
        start, end = text.find("{"), text.rfind("}")
        if start < 0 or end < 0:
            raise ValueError("no JSON in the answer")
        text = text[start : end + 1]
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            # Models like trailing commas.
            return json.loads(re.sub(r",\s*([}\]])", r"\1", text))

    def _format_research(self, results: list[dict[str, Any]]) -> str:
        if not results:
            return "(nothing was found)"
        return "\n".join(f"- {r['title']} ({r['url']}): {r['snippet']}" for r in results)

    def _to_result(
        self, analysis: dict[str, Any], passed: bool, usage: dict[str, int]
    ) -> LegislationAnalysis:
        impacts = []
        for item in analysis.get("impacts") or []:
            try:
                confidence = float(item.get("confidence", 0.5))
            except (TypeError, ValueError):
                confidence = 0.5
            impacts.append(
                LegislationImpact(
                    title=str(item.get("title") or "Untitled"),
                    description=str(item.get("description") or ""),
                    evidence=str(item.get("evidence") or ""),
                    confidence=min(max(confidence, 0.0), 1.0),
                )
            )
        return LegislationAnalysis(
            summary=str(analysis.get("summary") or ""),
            impacts=impacts,
            review_passed=passed,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()
        await self.research.close()
