"""The steps that ask a model, each looked up before it is paid for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, NotRequired, TypedDict, TypeVar

from pydantic import BaseModel

from ..errors import InvalidInputError
from ..llm_client import LLMClient
from ..prompts import Prompt
from ..routing import LLMTask
from ..runs import Run, digest
from .material import EXCERPT_CHARS, subject_source, tagged
from .models import ResearchPlan, ReviewCritique, Source
from .preset import Preset

D = TypeVar("D", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)
M = TypeVar("M", bound=BaseModel)

QUERIES = 4
MAX_TOKENS = {"research": 512, "generate": 4096, "review": 2048, "refine": 4096}
MODEL_OF = {
    "research": "research",
    "generate": "generate",
    "review": "review",
    "refine": "generate",
}
"""Which of the subject's models, and which task of the registry, does a step."""


class Subject(TypedDict):
    """What is analysed, and by which models.

    Attributes:
        bill_id: the unit's key; with the other fields it makes the run's identity.
        title: as readers know it; the id, if absent.
        models: by step: research, generate and review; absent ones come from the registry's
            tasks of the same names. `refine` is done by the model of `generate`.
    """

    bill_id: str
    bill_text: str
    jurisdiction: NotRequired[str | None]
    title: NotRequired[str]
    models: NotRequired[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Paused:
    """A run that stopped where it was told to; `run` with the same subject goes on from there."""

    run_id: str
    after: str
    output: Any


class StopHereError(Exception):
    """Carries a paused run out of its steps; never reaches a caller."""

    def __init__(self, paused: Paused) -> None:
        super().__init__(paused.after)
        self.paused = paused


def checked(subject: Subject) -> Subject:
    """Refuse a subject that can't be analysed.

    Raises:
        InvalidInputError: no id, no text, or a model for a step that there is not.
    """
    if not subject.get("bill_id"):
        raise InvalidInputError("bill_id is empty: it is the key of the run")
    if not (subject.get("bill_text") or "").strip():
        raise InvalidInputError(f"the text of {subject['bill_id']} is empty")
    odd = subject.get("models", {}).keys() - set(MODEL_OF.values())
    if odd:
        raise InvalidInputError(
            f"models has no step {', '.join(sorted(odd))}: use research, generate and review"
        )
    return subject


class Asker(Generic[D, R]):
    """Asks the models of one run.

    Args:
        run: None when nothing is to be sent, only estimated.
        stop_after: the step to pause after.
    """

    def __init__(
        self,
        llm: LLMClient,
        preset: Preset[D, R],
        subject: Subject,
        run: Run | None,
        stop_after: str | None,
    ) -> None:
        self._llm = llm
        self._preset = preset
        self._subject = subject
        self._run = run
        self._stop_after = stop_after
        self._heading = {
            "title": subject.get("title") or subject["bill_id"],
            "jurisdiction": subject.get("jurisdiction") or "not stated",
        }
        self.subject_source = subject_source(self._heading["title"], subject["bill_text"])

    async def plan(self) -> ResearchPlan:
        """Let the model write search queries."""
        plan = await self._ask(
            "research", self._preset.prompts.research, ResearchPlan, self._research_slots()
        )
        await self.pause_after("research", plan)
        return plan

    async def generate(self, sources: Sequence[Source]) -> D:
        """Write the first draft."""
        draft = await self._ask(
            "generate",
            self._preset.prompts.generate,
            self._preset.draft_model,
            {**self._heading, "material": tagged(sources)},
        )
        await self.pause_after("generate", draft)
        return draft

    async def review(
        self, result: BaseModel, sources: Sequence[Source], number: int
    ) -> ReviewCritique:
        """Review a result, as it stands after its quotes were checked."""
        review = await self._ask(
            "review",
            self._preset.prompts.review,
            ReviewCritique,
            {**self._heading, "analysis": _text(result), "material": tagged(sources)},
            key=str(number),
        )
        await self.pause_after("review", review)
        return review

    async def refine(
        self, result: BaseModel, review: ReviewCritique, sources: Sequence[Source], number: int
    ) -> D:
        """Write the draft anew, after its review."""
        slots = {
            **self._heading,
            "analysis": _text(result),
            "review": _text(review),
            "material": tagged(sources),
        }
        draft = await self._ask(
            "refine", self._preset.prompts.refine, self._preset.draft_model, slots, key=str(number)
        )
        await self.pause_after("refine", draft)
        return draft

    async def run_step(
        self,
        step: str,
        fn: Callable[..., Awaitable[Any]],
        inputs: Mapping[str, Any],
        **options: Any,
    ) -> Any:
        """Run a durable step of this run."""
        if self._run is None:
            raise RuntimeError("an estimate has no run")
        return await self._run.step(step, fn, inputs, **options)

    async def pause_after(self, step: str, output: Any) -> None:
        """Pause the run, if this is the step to pause after."""
        if self._run is not None and step == self._stop_after:
            await self._run.finish("paused")
            raise StopHereError(Paused(self._run.id, step, output))

    def upper_bound(self) -> Decimal | None:
        """Return the most that research, generate and review can cost, in USD."""
        prompts, sources = self._preset.prompts, tagged([self.subject_source])
        written = "x" * (MAX_TOKENS["generate"] * 4)
        review_slots = {**self._heading, "analysis": written, "material": sources}
        asked = (
            ("research", prompts.research, ResearchPlan, self._research_slots()),
            (
                "generate",
                prompts.generate,
                self._preset.draft_model,
                {**self._heading, "material": sources},
            ),
            ("review", prompts.review, ReviewCritique, review_slots),
        )
        bounds = [
            self._llm.estimate(
                _messages(prompt, slots),
                self._model(step),
                response_model,
                task=self._task(step),
                max_tokens=MAX_TOKENS[step],
            )
            for step, prompt, response_model, slots in asked
        ]
        known = [bound for bound in bounds if bound is not None]
        return sum(known, Decimal(0)) if len(known) == len(bounds) else None

    def _research_slots(self) -> dict[str, str]:
        excerpt = self.subject_source.text[:EXCERPT_CHARS]
        return {
            **self._heading,
            "count": str(QUERIES),
            "material": tagged([self.subject_source.model_copy(update={"text": excerpt})]),
        }

    def _model(self, step: str) -> str | None:
        return self._subject.get("models", {}).get(MODEL_OF[step])

    def _task(self, step: str) -> LLMTask | None:
        return None if self._model(step) else LLMTask(MODEL_OF[step])

    async def _ask(
        self,
        step: str,
        prompt: Prompt,
        response_model: type[M],
        slots: Mapping[str, str],
        *,
        key: str = "",
    ) -> M:
        async def ask(model: str | None, slots: Mapping[str, str]) -> M | None:
            response = await self._llm.complete(
                _messages(prompt, slots),
                model,
                response_model,
                task=self._task(step),
                step=step,
                prompt=prompt,
                max_tokens=MAX_TOKENS[step],
            )
            return response.parsed

        model = self._model(step)
        output = await self.run_step(
            step,
            ask,
            {"model": model, "slots": slots},
            key=key,
            model=model or f"task:{MODEL_OF[step]}",
            prompt_hash=digest([prompt.hash, response_model.model_json_schema()]),
        )
        return response_model.model_validate(output)


def _messages(prompt: Prompt, slots: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.render(**slots)}]


def _text(model: BaseModel) -> str:
    """Return a model's JSON; nothing that it quotes can close the mark around it."""
    return model.model_dump_json(indent=1).replace("</", "<\\/")
