"""What admins ask, as typed rows: comparisons, alerts, and whether the numbers add up.

Nothing here changes a row. What reconciliation finds is for a person to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import Field

from . import cache
from .database import Database
from .errors import InvalidInputError
from .providers import billing
from .types import Frozen

ROUNDING_USD = Decimal("0.0001")
"""How far a bill of a day may be off: Anthropic writes hundredths of a cent."""

Kind = Literal["spent", "held", "expired hold", "expired lease", "settled hold", "bill"]

_CAUSES = {
    "spent more": "the counter moved without its rows: ledger rows were deleted or changed by hand",
    "spent less": "rows came into cost_tracking past llm_settle, or the counter was changed",
    "held more": "a hold or a lease was deleted by hand: its amount stays held in this window",
    "held less": "a hold was inserted or the counter changed by hand: calls fit that should not",
    "held nowhere": "an orphan: no counter knows of this hold",
    "expired hold": "its process is gone: the next call under a limit, or `llm-common costs`, "
    "charges it as estimated",
    "expired lease": "its process is gone: the next `flush()`, or `llm-common costs`, charges what "
    "is left of it as estimated",
    "settled hold": "the ledger has the attempt, but its hold was put back by hand",
    "bill more": "the provider charged for what the ledger lacks: calls from elsewhere with this "
    "account, rows that wait in the spool of another machine, deleted rows, or a price too low",
    "bill less": "the ledger has more than was charged: credits, a row logged twice, a price too "
    "high, or a bill that is still growing",
}


class ModelComparison(Frozen):
    """How one model did: see `compare_models`.

    Attributes:
        ok: attempts that were answered.
        total_cost: USD, without the `unpriced`.
        avg_quality: mean score of the runs that used it, 0 to 1; None without scores.
    """

    model: str
    calls: int
    ok: int
    errors: int
    avg_latency_ms: Decimal | None
    total_cost: Decimal
    unpriced: int
    avg_quality: Decimal | None


class PromptComparison(Frozen):
    """How one version of a prompt did: see `compare_prompt_versions`.

    A call is an operation with all its attempts.

    Attributes:
        hash: of the template's text; one version with two hashes was edited without a new number.
        ok: calls whose last attempt was answered.
        ok_share: of all calls, 0 to 1.
        reask_share: of calls whose answer did not fit its model at first, 0 to 1.
        total_cost: USD, without the `unpriced` attempts.
        avg_cost: USD per call with a known cost.
        avg_latency_ms: time on the wire per call, all attempts together.
    """

    prompt: str
    version: str | None
    hash: str | None
    calls: int
    ok: int
    ok_share: Decimal
    reasks: int
    reask_share: Decimal
    total_cost: Decimal
    avg_cost: Decimal | None
    unpriced: int
    avg_input_tokens: Decimal | None
    avg_output_tokens: Decimal | None
    avg_latency_ms: Decimal | None


class Alert(Frozen):
    """An alert and how far it got.

    Attributes:
        body: kind, scope, window, threshold, and the limit and the spend at that moment.
        state: ``pending``, ``delivered`` or ``failed`` (given up).
        channel: ``webhook`` or ``log``; None before the first attempt.
    """

    id: str
    body: dict[str, Any]
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: datetime
    finished_at: datetime | None
    channel: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two figures that should agree and do not, in USD.

    Attributes:
        about: whose they are.
        expected: by the ledger, the holds or the leases.
        found: by the counter, the hold or the bill.
        cause: the likely one.
    """

    kind: Kind
    about: str
    expected: Decimal
    found: Decimal
    cause: str

    @property
    def by(self) -> Decimal:
        """How much too high it is; negative when too low."""
        return self.found - self.expected


@dataclass(frozen=True, slots=True)
class BilledDay:
    """One UTC day of one provider: the ledger of all projects beside the bill, in USD.

    Attributes:
        certain: known costs of attempts that lie wholly in the day.
        possible: with estimates and attempts over midnight, which may count on either day.
        estimated: rows whose cost is estimated.
        unpriced: rows whose cost is unknown: with any, the bill may be higher than `possible`.
    """

    provider: str
    day: date
    billed: Decimal
    certain: Decimal
    possible: Decimal
    estimated: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What differs, and what can't be known.

    Attributes:
        estimated_rows: rows of the project whose cost is an upper bound for now.
        estimated_usd: their sum.
        unpriced_rows: rows of the project whose cost is unknown.
        days: what providers charged.
        notes: what was not compared, and why.
    """

    project: str
    start: date
    end: date
    differences: tuple[Difference, ...]
    estimated_rows: int
    estimated_usd: Decimal
    unpriced_rows: int
    days: tuple[BilledDay, ...] = ()
    notes: tuple[str, ...] = ()


async def compare_models(
    db: Database, start: date, end: date, step: str | None = None
) -> list[ModelComparison]:
    """Compare the models that did a step, or all of them, over all projects.

    Args:
        end: included, as `start` is.
    """
    query = {"kind": "compare", "start": start, "end": end, "step": step}
    rows = (await db.call("llm_costs", query))["rows"]
    return [ModelComparison.model_validate(row) for row in rows]


async def compare_prompt_versions(
    db: Database,
    start: date,
    end: date,
    prompt_id: str | None = None,
    *,
    project: str | None = None,
) -> list[PromptComparison]:
    """Compare the versions of a prompt, or of all, in one project or in all.

    Args:
        end: included, as `start` is.

    Raises:
        SchemaError: the database has schema 1.
    """
    query = {"start": start, "end": end, "prompt_id": prompt_id, "project": project}
    rows = (await db.call("llm_prompt_versions", query))["rows"]
    return [PromptComparison.model_validate(row) for row in rows]


async def alerts(db: Database, project: str, limit: int = 50) -> list[Alert]:
    """Return the newest alerts of a project.

    Raises:
        SchemaError: the database has schema 1.
    """
    rows = (await db.call("llm_alerts", {"project": project, "limit": limit}))["alerts"]
    return [Alert.model_validate(row) for row in rows]


class SearchCacheClass(Frozen):
    """How searches of one class were answered without a search: see `search_cache_report`.

    Attributes:
        query_class: ``news``, ``official`` or ``reference``.
        fresh: answers that were not out of date.
        stale: answers that were, while a refresh ran or an engine failed.
        coalesced: answers of a search that another caller was making.
        negative: answers that nothing was found.
        saved_usd: what these answers cost when they were searched for, without the `unpriced`.
        entries: answers that are kept now.
    """

    query_class: str = Field(alias="class")
    fresh: int
    stale: int
    coalesced: int
    negative: int
    saved_usd: Decimal
    unpriced: int
    entries: int

    @property
    def hits(self) -> int:
        """All of them."""
        return self.fresh + self.stale + self.coalesced + self.negative


async def search_cache_report(
    db: Database, project: str, start: date | None = None, end: date | None = None
) -> list[SearchCacheClass]:
    """Say what the search cache has answered and saved, by class of query.

    Args:
        start: the first UTC day; None means the day the counting began.
        end: included; None means today.

    Raises:
        SchemaError: the database has no windows in its search cache yet.
    """
    await cache.flush(db)
    span = {"start": start or date.min, "end": end or date.max}
    rows = (await db.call("llm_search_report", {"project": project, **span}))["classes"]
    return [SearchCacheClass.model_validate(row) for row in rows]


async def reconcile(
    db: Database, project: str, start: date, end: date, providers: Sequence[str] = ()
) -> Reconciliation:
    """Compare the ledger of a project with its counters, holds and leases, and with bills.

    Args:
        end: included, as `start` is.
        providers: whose bill to ask for; it covers the organisation, so it is compared with all
            projects of the database, on days that are over in UTC.

    Raises:
        InvalidInputError: `start` is after `end`, or a provider reports no costs.
        MissingKeyError: no admin key of a provider in the environment.
        CurrencyError: a bill in another currency than USD.
        CallError: a provider gave no bill.
        SchemaError: the database has schema 1.
    """
    if start > end:
        raise InvalidInputError(f"the first day, {start}, is after the last, {end}")
    span = {"start": start, "end": end}
    found = await db.call("llm_reconcile", {"project": project, **span})
    days: list[BilledDay] = []
    notes: list[str] = []
    for provider in providers:
        reported = billing.reported_days(provider, start, end, datetime.now(UTC).date())
        if reported != (start, end):
            compared = f"{reported[0]} to {reported[1]}" if reported else "no day"
            notes.append(f"{provider}: {compared} compared; it has not told the rest in full")
        if reported:
            days += await _billed_days(db, provider, *reported)
    return Reconciliation(
        project=project,
        start=start,
        end=end,
        differences=(
            *differing_counters(found["counters"]),
            *_holds(found),
            *differing_bills(days),
        ),
        estimated_rows=found["estimated"]["rows"],
        estimated_usd=Decimal(found["estimated"]["usd"]),
        unpriced_rows=found["unpriced"],
        days=tuple(days),
        notes=tuple(notes),
    )


async def _billed_days(db: Database, provider: str, start: date, end: date) -> list[BilledDay]:
    bill = await billing.billed(provider, start, end)
    query = {"provider": provider, "start": start, "end": end}
    rows = (await db.call("llm_provider_days", query))["days"]
    return [
        BilledDay(
            provider=provider,
            day=(day := date.fromisoformat(row["day"])),
            billed=bill[day],
            certain=Decimal(row["certain_usd"]),
            possible=Decimal(row["possible_usd"]),
            estimated=row["estimated"],
            unpriced=row["unpriced"],
        )
        for row in rows
    ]


def differing_counters(counters: Iterable[Mapping[str, Any]]) -> Iterable[Difference]:
    """Say what differs in counters that the database found to differ. Pure."""
    for c in counters:
        since = "" if c["window"] == "total" else f" {c['window_start']}"
        about = f"{c['scope']} {c['scope_id']} by {c['window']}{since}"
        spent, ledger = Decimal(c["spent_usd"]), Decimal(c["ledger_usd"])
        if spent != ledger:
            cause = _CAUSES["spent more" if spent > ledger else "spent less"]
            yield Difference("spent", about, ledger, spent, cause)
        held, rows = Decimal(c["held_usd"]), Decimal(c["rows_usd"])
        if held != rows:
            less = "held less" if c["counted"] else "held nowhere"
            cause = _CAUSES["held more" if held > rows else less]
            yield Difference("held", about, rows, held, cause)


def differing_bills(days: Iterable[BilledDay]) -> Iterable[Difference]:
    """Say which bills lie outside what the ledger can explain. Pure."""
    for d in days:
        about = f"{d.provider} on {d.day}"
        if d.billed < d.certain - ROUNDING_USD:
            yield Difference("bill", about, d.certain, d.billed, _CAUSES["bill less"])
        elif d.billed > d.possible + ROUNDING_USD and not d.unpriced:
            yield Difference("bill", about, d.possible, d.billed, _CAUSES["bill more"])


def _holds(found: Mapping[str, Any]) -> Iterable[Difference]:
    kinds: dict[str, Kind] = {"expired": "expired hold", "settled": "settled hold"}
    for name, kind in kinds.items():
        for hold in found[name]:
            about = f"operation {hold['operation_id']}, attempt {hold['attempt_no']}"
            yield Difference(kind, about, Decimal(0), Decimal(hold["usd"]), _CAUSES[kind])
    for lease in found["leases"]:
        about, usd = f"lease {lease['lease_id']}", Decimal(lease["usd"])
        yield Difference("expired lease", about, Decimal(0), usd, _CAUSES["expired lease"])
