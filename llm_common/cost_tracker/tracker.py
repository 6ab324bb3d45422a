"""`CostTracker`: reserve before the wire, settle whatever happens, answer what it cost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, Unpack, get_args

from .. import settings
from ..database import Database, connect
from ..errors import BudgetExceededError, InvalidInputError, SpoolError, UnknownPriceError
from ..types import Aliases
from .alerts import alerts_for
from .grants import Ask
from .leases import boot_clock
from .ledger import Ledger
from .models import (
    BudgetStatus,
    CostBreakdown,
    CostMetrics,
    CostTotal,
    Hold,
    Intent,
    Limit,
    Outcome,
    Scope,
    SpoolKind,
    Window,
    from_nano,
    unsent,
    usd,
)
from .process import ledger_for
from .spool import Row

GroupBy = Literal["model", "step", "project", "user", "task", "day", "run", "status"]
Amount = Decimal | float | str
REMEMBERED_CALLS = 1_000


class CostTracker:
    """Budgets and the ledger of one project.

    Every paid call is reserved here before it is sent and settled here whatever happens to it;
    `cost_tracking` has one row per attempt.

    Args:
        db: a Postgres URL, a Supabase client, a `Database` or ``"embedded"``; None means
            `DATABASE_URL`, then `SUPABASE_URL` with a service key. `db_client` and
            `supabase_client` are the same argument by other names.
        project: labels every row and is the scope of the budgets; None means
            `LLM_COMMON_PROJECT`.
        daily_budget_usd: strict limit of the project per day, in USD.
        monthly_budget_usd: strict limit of the project per calendar month, in USD.
        alert_threshold: part of a limit (0 to 1) at which there is an alert, beside those at 50,
            80 and 100 %; each once per limit and period, to the webhook of the setting
            `alert_webhook`, else to the log.
        spool: where calls are written down before they are sent: ``disk`` (as if absent), or
            ``database`` on machines whose disk goes with them; None means `LLM_COMMON_SPOOL`.

    Raises:
        InvalidInputError: a budget that is not a number of USD, a threshold outside 0 to 1, or a
            spool of another name.
        ConfigurationError: no database is named anywhere, or two are.
    """

    def __init__(
        self,
        db: Any = None,
        *,
        project: str | None = None,
        daily_budget_usd: Amount | None = None,
        monthly_budget_usd: Amount | None = None,
        alert_threshold: float = 0.8,
        spool: SpoolKind | None = None,
        **aliases: Unpack[Aliases],
    ) -> None:
        if not 0 <= alert_threshold <= 1:
            raise InvalidInputError(f"alert_threshold must lie in 0 to 1, not {alert_threshold!r}")
        self._on_disk = _is_on_disk(spool)
        self.db: Database = connect(db, **aliases)
        self._project = project
        self._alert_threshold = Decimal(str(alert_threshold))
        self._own_calls: deque[tuple[str, int | None, Decimal | None]] = deque(
            maxlen=REMEMBERED_CALLS
        )
        self._limits: list[tuple[Scope, str | None, Window, Decimal]] = []
        if daily_budget_usd is not None:
            self.limit("project", None, "day", daily_budget_usd)
        if monthly_budget_usd is not None:
            self.limit("project", None, "month", monthly_budget_usd)

    def limit(self, scope: Scope, scope_id: str | None, window: Window, amount: Amount) -> None:
        """Set a strict limit, such as ``limit("user", "u-17", "day", "0.50")``.

        A `scope_id` of None with scope ``project`` is the project of the call.

        Raises:
            InvalidInputError: an unknown scope or window, a scope without an id, or an amount that
                is not a number of USD (`CurrencyError`: of another currency).
        """
        _check_limit(scope, scope_id, window)
        self._limits.append((scope, scope_id, window, usd(amount, f"the {window} budget")))

    @property
    def project(self) -> str:
        """The project that labels this tracker's rows."""
        return settings.project(self._project)

    async def reserve(self, intent: Intent) -> Hold:
        """Hold the upper bound of an attempt in every limited scope and write the intent down.

        Only after it returns may the attempt be sent; then `settle` must follow.

        Raises:
            BudgetExceededError: it does not fit; nothing is held.
            UnknownPriceError: a limit applies, but the model has no known price.
            DatabaseError: the budget can't be checked.
            SpoolError: the intent can't be written down.
        """
        project = intent.project or self.project
        row = intent.row(project)
        ledger = await self._ready()
        limits = [
            *(Limit(s, i or project, w, x) for s, i, w, x in self._limits if _applies(s, i, row)),
            *intent.limits,
        ]
        row["timestamp"] = datetime.now(UTC).isoformat()
        if limits:
            alerts = alerts_for(self.db)
            alerts.watch(project, limits, self._alert_threshold)
            alerts.nudge(self.db, project)
        if limits or not self._on_disk:
            row |= await self._grant(ledger, intent, row, tuple(limits))
        if self._on_disk:
            await self._intend(ledger, row, is_held=bool(limits))
        return Hold(intent, row, time.monotonic(), self._on_disk)

    def settle(self, hold: Hold, outcome: Outcome) -> Decimal | None:
        """Record how an attempt ended, and return its cost in USD (None: unknown).

        It returns as soon as the result is in the spool; the database follows in the background.
        """
        latency_ms = round((time.monotonic() - hold.started) * 1000)
        row = outcome.row(hold, latency_ms)
        ledger_for(self.db).record(hold, row, self.db)
        alerts_for(self.db).nudge(self.db, row["project"])
        cost = None if row["cost_usd"] is None else Decimal(row["cost_usd"])
        for model in {row["model"], row["requested_model"]}:
            self._own_calls.append((model, row["tokens_used"], cost))
        return cost

    async def log_cost(self, metrics: CostMetrics) -> None:
        """Record spend that happened outside this library, as ``kind = external``.

        A call that this library made is in the ledger already: logging it again, by its
        `operation_id` or with the same model, tokens and cost, changes nothing.
        """
        if metrics.operation_id is None and self._is_own(metrics):
            return
        ledger = await self._ready()
        await ledger.add(metrics.row(self.project), self.db)

    async def get_daily_cost(self, day: date | None = None) -> CostTotal:
        """Return what the project spent on a day (today, if None), in USD."""
        return await self._total({"kind": "daily", "day": (day or await self._today()).isoformat()})

    async def get_monthly_cost(
        self, year: int | None = None, month: int | None = None
    ) -> CostTotal:
        """Return what the project spent in a calendar month (this one, if None), in USD."""
        today = await self._today()
        when = {"year": year or today.year, "month": month or today.month}
        return await self._total({"kind": "monthly", **when})

    async def get_cost_breakdown(
        self, start: date, end: date, group_by: GroupBy = "model"
    ) -> list[CostBreakdown]:
        """Return the project's costs from `start` to `end`, both included, by one label."""
        dates = {"start": start.isoformat(), "end": end.isoformat()}
        query = {"kind": "breakdown", "group_by": group_by, **dates}
        answer = await self._query("llm_costs", query)
        return [CostBreakdown.model_validate(line) for line in answer["rows"]]

    async def get_budgets(self) -> list[BudgetStatus]:
        """Return how each limit that has been used stands in its present window."""
        answer = await self._query("llm_budget_status", {})
        return [_status(b) for b in answer["budgets"]]

    async def flush(self) -> None:
        """Wait until the database has every row of this process, and charge what expired.

        What this process has leased is given back, so that what is held is what is being sent;
        alerts that follow are delivered.

        Raises:
            DatabaseError: rows stay in the spool and are brought there later.
        """
        await self._drain()
        await alerts_for(self.db).look(self.db)

    async def aclose(self) -> None:
        """Drain what is pending, give back what is leased and release the connection."""
        await ledger_for(self.db).flush(self.db, give_back=True)
        await alerts_for(self.db).close(self.db)
        await self.db.aclose()

    async def _drain(self) -> None:
        ledger = await self._ready()
        await ledger.flush(self.db, give_back=True)
        await ledger.bring_from_other_loops(self.db)
        await self.db.call("llm_expire_holds", {"project": self.project})

    async def _ready(self) -> Ledger:
        """Return the ledger; replay what dead processes left, once per process."""
        ledger = ledger_for(self.db)
        if not ledger.replayed:
            if self._on_disk:
                ledger.open_spool()
            await ledger.flush(self.db)
        return ledger

    async def _grant(
        self, ledger: Ledger, intent: Intent, row: Row, limits: tuple[Limit, ...]
    ) -> dict[str, Any]:
        """Return what the grant adds to the row; without a limit there is nothing to refuse."""
        if limits and intent.bound_nano is None:
            raise UnknownPriceError(
                f"the price of {intent.model} is unknown, so a budget can't bound it: "
                "remove the budget or choose a priced model"
            )
        ask = Ask(row, limits, intent.bound_nano, intent.timeout_s)
        answer = await ledger.grants.take(self.db, ask, commit=not self._on_disk)
        if not answer["granted"]:
            raise _exceeded(answer, intent)
        granted = {
            "timestamp": answer.get("reserved_at"),
            "accounted_on": answer.get("accounted_on"),
        }
        if lease := answer.get("lease_id"):
            granted |= {"lease_id": lease, "bound_nano": intent.bound_nano}
        return {name: value for name, value in granted.items() if value is not None}

    async def _intend(self, ledger: Ledger, row: Row, *, is_held: bool) -> None:
        """Write the intent down; if that fails, the hold or the part of a lease is free again."""
        try:
            ledger.intend(row)
        except SpoolError:
            ledger.leases.settle((row["operation_id"], row["attempt_no"]), 0, boot_clock())
            if is_held and "lease_id" not in row:
                refused = {**row, **unsent("error", "SpoolError")}
                await self.db.call("llm_settle", {"rows": [refused]})
            raise

    def _is_own(self, metrics: CostMetrics) -> bool:
        return any(
            model == metrics.model
            and tokens == metrics.tokens_used
            and (cost is None) == (metrics.cost_usd is None)
            and abs((cost or 0) - (metrics.cost_usd or 0)) < Decimal("1e-9")
            for model, tokens, cost in self._own_calls
        )

    async def _today(self) -> date:
        answer = await self._query("llm_budget_status", {})
        return date.fromisoformat(answer["today"])

    async def _total(self, query: Mapping[str, Any]) -> CostTotal:
        answer = await self._query("llm_costs", query)
        return CostTotal(answer["total_cost"], answer["unpriced"])

    async def _query(self, function: str, query: Mapping[str, Any]) -> dict[str, Any]:
        await self._drain()
        return await self.db.call(function, {**query, "project": self.project})


def _is_on_disk(spool: str | None) -> bool:
    kind = settings.setting("spool", spool, "disk").value
    if kind not in get_args(SpoolKind):
        raise InvalidInputError(f"spool is 'disk' or 'database', not {kind!r}")
    return kind == "disk"


def _check_limit(scope: str, scope_id: object, window: str) -> None:
    for what, value, known in (("scope", scope, Scope), ("window", window, Window)):
        if value not in get_args(known):
            names = ", ".join(get_args(known))
            raise InvalidInputError(f"a limit's {what} is one of {names}, not {value!r}")
    if not (isinstance(scope_id, str) and scope_id) and not (scope == "project" and not scope_id):
        raise InvalidInputError(f"a limit of scope {scope} needs a scope_id, not {scope_id!r}")


def _applies(scope: Scope, scope_id: str | None, row: Row) -> bool:
    """Tell whether a limit concerns a row; a limit of another user or job does not."""
    if scope == "project":
        return scope_id in (None, row["project"])
    if scope == "tag":
        return scope_id in row["tags"]
    column = {"user": "user_id", "model": "requested_model", "run": "run_id", "job": "job_id"}
    return row[column.get(scope, scope)] == scope_id


def _exceeded(answer: Mapping[str, Any], intent: Intent) -> BudgetExceededError:
    limit = Decimal(answer["limit_usd"])
    left = max(limit - Decimal(answer["spent_usd"]) - Decimal(answer["held_usd"]), Decimal(0))
    needed = from_nano(intent.bound_nano or 0)
    scope = f"{answer['scope']} {answer['scope_id']} by {answer['window']}"
    return BudgetExceededError(
        f"the budget of {scope} is ${limit:f}, of which ${left:f} is left; "
        f"this call to {intent.model} may cost up to ${needed:f}",
        scope=scope,
        limit_usd=limit,
        remaining_usd=left,
        needed_usd=needed,
    )


def _status(budget: Mapping[str, Any]) -> BudgetStatus:
    return BudgetStatus(
        scope=budget["scope"],
        scope_id=budget["scope_id"],
        window=budget["window"],
        window_start=date.fromisoformat(budget["window_start"]),
        limit_usd=Decimal(budget["limit_usd"]),
        spent_usd=Decimal(budget["spent_usd"]),
        held_usd=Decimal(budget["held_usd"]),
    )
