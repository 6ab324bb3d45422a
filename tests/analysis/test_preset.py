"""The pipeline's core knows nothing of bills: another preset analyses something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from pydantic import BaseModel

from llm_common.analysis import BILL, Preset, Prompts, ReviewCritique, Source
from llm_common.analysis.models import DraftAnalysis, Impact
from llm_common.analysis.scoring import confidence, evidence_share
from llm_common.prompts import Prompt
from llm_common.testing import Answer, ProviderServer
from tests.analysis.conftest import QUERIES, SUBJECT, Build, Table, asked, asks, review


class Grant(BaseModel):
    """What a model writes about a call for grants."""

    funder: str
    amount_usd: int


class GrantReport(BaseModel):
    """What the host gets."""

    funder: str
    amount_usd: int
    checked: bool
    cited: list[str]
    run: str


def assemble(draft: Grant, sources: Sequence[Source], *, passed: bool, run_id: str) -> GrantReport:
    cited = [source.id for source in sources if draft.funder in source.text]
    return GrantReport(**draft.model_dump(), checked=passed, cited=cited, run=run_id)


def score(result: GrantReport, critique: ReviewCritique) -> Decimal:
    return Decimal("0.90") if result.cited and critique.passed else Decimal(0)


def prompt(step: str, begin: str, *slots: str) -> Prompt:
    names = ("title", "jurisdiction", "material", *slots)
    return Prompt(f"grant_{step}", "7", f"{begin}\n" + "\n".join(f"{{{{{n}}}}}" for n in names))


GRANT: Preset[Grant, GrantReport] = Preset(
    name="grants",
    prompts=Prompts(
        research=prompt("research", "You plan the research", "count"),
        generate=prompt("generate", "You analyse"),
        review=prompt("review", "You review", "analysis"),
        refine=prompt("refine", "You revise", "analysis", "review"),
    ),
    draft_model=Grant,
    result_model=GrantReport,
    assemble=assemble,
    score=score,
)


async def test_another_preset_has_prompts_models_and_a_score_of_its_own(
    fake: ProviderServer, build: Build, table: Table
) -> None:
    fake.script(QUERIES, match=asks("research"))
    fake.script(Answer(json={"funder": "nobody", "amount_usd": 1}), match=asks("generate"))
    fake.script(review(passed=False), review(passed=True), match=asks("review"))
    fake.script(Answer(json={"funder": "Kern", "amount_usd": 4200000}), match=asks("refine"))
    pipeline = build(preset=GRANT)
    report = await pipeline.run(**SUBJECT)
    (run,) = table("pipeline_runs")
    assert report == GrantReport(
        funder="Kern", amount_usd=4200000, checked=True, cited=["bill", "s1"], run=str(run["id"])
    )
    assert (run["pipeline_name"], run["quality_score"], run["confidence"]) == (
        *("grants", Decimal("0.90")),
        None,
    )
    ledger = {r["prompt_id"] for r in table("cost_tracking") if r["prompt_id"]}
    assert ledger == {"grant_research", "grant_generate", "grant_review", "grant_refine"}
    sent = len(fake.requests)
    assert await pipeline.run(**SUBJECT) == report
    assert len(fake.requests) == sent


class LongerGrant(Grant):
    """The same, after a host added a field."""

    deadline: str = "unknown"


async def test_an_answer_of_another_shape_is_not_taken(fake: ProviderServer, build: Build) -> None:
    fake.script(Answer(json={"funder": "Kern", "amount_usd": 1}), match=asks("generate"))
    await build(preset=GRANT).run(**SUBJECT)
    changed = replace(GRANT, draft_model=LongerGrant)
    await build(preset=changed).run(**SUBJECT)
    assert asked(fake)["generate"] == 2
    assert asked(fake)["research"] == 1


async def test_two_presets_of_one_subject_are_two_runs(
    fake: ProviderServer, build: Build, table: Table
) -> None:
    await build().run(**SUBJECT)
    await build(preset=replace(BILL, name="bills-again")).run(**SUBJECT)
    assert len(table("pipeline_runs")) == 2
    assert asked(fake)["generate"] == 1


def impact(share: float) -> Impact:
    return Impact(title="t", description="d", evidence=[], confidence=share, verified=True)


@pytest.mark.parametrize(
    ("verdicts", "share"),
    [
        ([], 0.0),
        (["verified"], 1.0),
        (["repaired"], 0.9),
        (["unverified"], 0.0),
        (["verified", "repaired", "unverified", "unverified"], 0.475),
    ],
)
def test_the_share_of_evidence(verdicts: list[str], share: float) -> None:
    assert evidence_share(verdicts) == pytest.approx(share)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("impacts", "passed", "expected"),
    [([], True, 0.0), ([0.8, 0.4], True, 0.6), ([0.8, 0.4], False, 0.42)],
)
def test_overall_confidence(impacts: list[float], passed: bool, expected: float) -> None:
    assert confidence([impact(i) for i in impacts], passed) == expected


def test_a_draft_without_impacts_has_no_confidence() -> None:
    empty = DraftAnalysis(summary="s", impacts=[])
    result = BILL.assemble(empty, [], passed=True, run_id="r")
    assert (result.confidence, result.impacts) == (0.0, [])
    critique = ReviewCritique(passed=False, critique="c", missing_impacts=["a"] * 9)
    assert BILL.score(result, critique) == Decimal(0)
