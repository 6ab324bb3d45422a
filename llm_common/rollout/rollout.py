"""`Rollout`: which arm a unit is shown, and what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar, Unpack

from pydantic import ValidationError

from .. import settings
from ..context import SHADOW, labels
from ..cost_tracker import CostMetrics, CostTracker, alerts_for
from ..database import Database, connect, one_of
from ..errors import (
    BudgetError,
    DatabaseError,
    InvalidInputError,
    LLMCommonError,
    SpoolError,
)
from ..telemetry import event
from ..types import Aliases
from .environment import environment
from .evaluation import Choice, Force, choose, in_force
from .guardrails import Guardrails
from .keeper import Keeper
from .models import Arm, Exposure, Shadowing, State
from .recorder import Recorder
from .shadow import MOST_AT_ONCE, Shadow, columns_of, execute
from .showing import Columns, Showing, labelled
from .watch import look

T = TypeVar("T")
P = ParamSpec("P")

Attributes = Mapping[str, str]


class Rollout:
    """A switch from an old implementation to a new one, unit by unit.

    The state is read in the background and evaluated in memory: no query is made for a unit.
    Whatever is wrong with the flag, the old arm runs and the log says why, once.

    Args:
        flag: its name, such as ``bill-analysis``.
        db: a Postgres URL, a Supabase client, a `Database` or ``"embedded"``; None means
            `DATABASE_URL`, then `SUPABASE_URL` with a service key. Where none is set the
            environment alone decides, and nothing is recorded. `db_client` and `supabase_client`
            are the same argument.
        project: None means `LLM_COMMON_PROJECT`.
        guardrails: when the new arm is rolled back; by default the plan's figures.
        shadow: how shadow executions are bounded and compared.

    Raises:
        ConfigurationError: no project is named, or two databases are.
        InvalidInputError: the flag has no name.
    """

    def __init__(
        self,
        flag: str,
        db: Any = None,
        *,
        project: str | None = None,
        guardrails: Guardrails | None = None,
        shadow: Shadow | None = None,
        **aliases: Unpack[Aliases],
    ) -> None:
        if not flag.strip():
            raise InvalidInputError("a rollout needs a name, such as bill-analysis")
        self.flag = flag
        self.project = settings.project(project)
        self._env = environment()
        self._guardrails = guardrails or Guardrails()
        self._shadow = shadow or Shadow()
        self._said: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._shadowing = 0
        self.db: Database | None = _database(db, aliases)
        if self.db is not None:
            self._keeper = Keeper(
                self.db, self.project, flag, after_poll=self._look, changed=self._alert
            )
            self._recorder = Recorder(self.db, self.project, flag, self._recorded)
        if self._env.problem:
            self._say("bad_environment", problem=self._env.problem)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    async def start(self) -> None:
        """Load the state, and go on reading it in the background."""
        if self.db is not None:
            await self._keeper.ready()

    async def aclose(self) -> None:
        """Wait for shadow executions, write what is left, and read the state no more."""
        await asyncio.gather(*self._background, return_exceptions=True)
        if self.db is not None:
            await self._keeper.aclose()
            await self._recorder.aclose()
            await alerts_for(self.db).look(self.db)
            await self.db.aclose()

    @property
    def state(self) -> State | None:
        """The state as stored; None where it is not known, or too old to go by."""
        return self._keeper.state if self.db is not None else None

    @property
    def force(self) -> Force:
        """What is in force, with the environment: mode, share and why."""
        force = in_force(self.state, self._env, has_database=self.db is not None)
        if force.reason == "no_state" and self.db is not None and self._keeper.is_stale:
            return replace(force, reason="stale")
        return force

    def arm(self, unit_id: object, attributes: Attributes | None = None) -> Arm:
        """Return the arm of a unit, ``old`` or ``new``; nothing is recorded."""
        return self.choose(unit_id, attributes).arm

    def choose(self, unit_id: object, attributes: Attributes | None = None) -> Choice:
        """Return the arm of a unit and why; nothing is recorded.

        Args:
            unit_id: text, a whole number or a UUID; with anything else the old arm runs.
            attributes: what segments go by, such as ``{"jurisdiction": "California"}``.
        """
        if self.db is not None:
            self._keeper.start()
        try:
            choice = choose(self.flag, self.state, self.force, unit_id, attributes)
        except Exception as error:  # noqa: BLE001 - an error of the flag must not be the user's
            self._say("error", error=type(error).__name__)
            return Choice("old", "error")
        if choice.reason in {"no_unit", "no_state", "stale"}:
            self._say(choice.reason)
        else:
            self._said -= {"no_state", "stale", "error"}
        return choice

    async def run(
        self,
        unit_id: object,
        *,
        old: Callable[[], Awaitable[T]],
        new: Callable[[], Awaitable[T]],
        attributes: Attributes | None = None,
        columns: Columns | None = None,
        old_cost: Callable[[T], Decimal | None] | None = None,
    ) -> T:
        """Run the unit's arm and return its result.

        A failure of the new arm is recorded, and the old arm serves the request. A refusal by a
        budget and a cancellation pass through: the one is meant, the other is the caller's.

        Args:
            attributes: what segments go by.
            columns: of `pipeline_runs` (`bill_id`, `jurisdiction`, `generate_model`,
                `review_model`); with them each execution of the old arm leaves a row there, as
                the new pipeline does.
            old_cost: says in USD what an execution of the old arm has cost; it goes to the ledger
                as ``external``. Without it what the old arm called through this library counts.

        Raises:
            Exception: whatever the old arm raises.
            BudgetError: the new arm was refused.
        """
        await self.start()
        choice = self.choose(unit_id, attributes)
        if choice.arm == "new":
            showing = self.show(choice)
            try:
                with showing.recorded(), showing.inside():
                    return await new()
            except BudgetError:
                raise
            except Exception as error:  # noqa: BLE001 - recorded; the old arm serves
                choice = self._fallen_back(choice, error)
        showing = self.show(choice)
        with showing.recorded(columns):
            with showing.inside():
                result = await old()
            self._book(showing, old_cost, result)
        if choice.is_shadowed:
            self._start_shadow(choice, new, result)
        return result

    async def stream(
        self,
        unit_id: object,
        *,
        old: Callable[[], AsyncGenerator[T, None]],
        new: Callable[[], AsyncGenerator[T, None]],
        attributes: Attributes | None = None,
        old_cost: Callable[[list[T]], Decimal | None] | None = None,
    ) -> AsyncGenerator[T, None]:
        """Pass on what the unit's arm yields; see `run`.

        The old arm serves in place of the new one as long as nothing was passed on; a stream that
        breaks later breaks for the reader too. In the shadow the two lists of items are compared.

        Args:
            attributes: what segments go by.
            old_cost: as of `run`; it is given the list of items.
        """
        await self.start()
        choice = self.choose(unit_id, attributes)
        if choice.arm == "new":
            showing, has_begun = self.show(choice), False
            try:
                with showing.recorded():
                    async with aclosing(labelled(showing, new())) as items:
                        async for item in items:
                            has_begun = True
                            yield item
                return
            except BudgetError:
                raise
            except Exception as error:
                if has_begun:
                    raise
                choice = self._fallen_back(choice, error)
        showing, kept = self.show(choice), list[T]()
        with showing.recorded():
            async with aclosing(labelled(showing, old())) as items:
                async for item in items:
                    kept.append(item)
                    yield item
            self._book(showing, old_cost, kept)
        if choice.is_shadowed:
            self._start_shadow(choice, lambda: _listed(new()), kept)

    @asynccontextmanager
    async def exposure(
        self, unit_id: object, attributes: Attributes | None = None
    ) -> AsyncGenerator[Exposure]:
        """Show a unit its arm and record how the block ends; for hosts that branch themselves.

        Example:
            ``async with rollout.exposure(bill_id) as shown: await analyse(shown.arm)``
        """
        await self.start()
        showing = self.show(self.choose(unit_id, attributes))
        with showing.recorded(), showing.inside():
            yield showing.exposure

    def show(self, choice: Choice, arm: str | None = None) -> Showing:
        """Record that a unit is shown an arm; the `Showing` records what comes of it.

        Args:
            choice: as `choose` has returned it.
            arm: as the ledger has it, where it is not the choice's: ``shadow``.
        """
        recorder = self._recorder if self.db is not None and choice.unit else None
        return Showing(choice, arm or choice.arm, recorder)

    def instead_of(
        self, old: Callable[P, Awaitable[T]], *, unit: Callable[P, object]
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """Decorate the new function: `old`, with the same arguments, runs in the old arm.

        Args:
            unit: takes the arguments and returns the unit's id.
        """

        def decorate(new: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
            @wraps(new)
            async def switched(*args: P.args, **kwargs: P.kwargs) -> T:
                return await self.run(
                    unit(*args, **kwargs),
                    old=lambda: old(*args, **kwargs),
                    new=lambda: new(*args, **kwargs),
                )

            return switched

        return decorate

    def _book(
        self, showing: Showing, old_cost: Callable[[T], Decimal | None] | None, result: T
    ) -> None:
        """Take down what an execution of the old arm has cost; the ledger learns it afterwards.

        A callback that fails must not fail the request that was served.
        """
        if old_cost is None:
            return
        try:
            cost = old_cost(result)
            metrics = CostMetrics(model=f"{self.flag}/old", step=self.flag, cost_usd=cost)
        except Exception as error:  # noqa: BLE001 - the host's own callback
            self._say("not_priced", error=type(error).__name__)
            return
        showing.cost_usd = metrics.cost_usd
        if self.db is not None:
            with labels(arm="old", run_id=showing.exposure.id):
                self._spawn(self._log_cost(self.db, metrics))

    async def _log_cost(self, db: Database, metrics: CostMetrics) -> None:
        try:
            await CostTracker(db, project=self.project).log_cost(metrics)
        except (DatabaseError, SpoolError) as error:
            self._say("not_booked", error=type(error).__name__)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _fallen_back(self, choice: Choice, error: Exception) -> Choice:
        event(
            "rollout.fell_back", level=logging.WARNING, flag=self.flag, error=type(error).__name__
        )
        return replace(choice, arm="old", reason="fell_back", counted=False)

    def _start_shadow(self, choice: Choice, new: Callable[[], Awaitable[Any]], result: Any) -> None:
        showing = self.show(choice, SHADOW)
        if self._shadowing >= MOST_AT_ONCE:
            showing.ended(status="refused", error_class="TooManyShadows")
            return
        self._shadowing += 1
        self._spawn(self._run_shadow(showing, new, result))

    async def _run_shadow(
        self, showing: Showing, new: Callable[[], Awaitable[Any]], result: Any
    ) -> None:
        state = self.state
        stored = state.shadow if state else Shadowing()
        try:
            with showing.inside():
                compared = await execute(self.flag, self._shadow, stored, new, result)
        finally:
            self._shadowing -= 1
        showing.ended(**columns_of(compared))

    async def _recorded(self, failures: int) -> None:
        if failures >= self._guardrails.failures_in_a_row:
            await self._look(at_once=True)

    async def _look(self, *, at_once: bool = False) -> None:
        """Let the guardrails judge; what they could not read they judge at the next poll."""
        if self.db is None:
            return
        try:
            done = await look(self.db, self.project, self.flag, self._guardrails, at_once=at_once)
        except (LLMCommonError, ValidationError) as error:
            self._say("not_judged", error=type(error).__name__)
            return
        if done in {"advance", "roll_back"}:
            self._keeper.wake()

    def _alert(self) -> None:
        """Have the alerts of a decision delivered, whichever process has made it."""
        if self.db is not None:
            alerts_for(self.db).nudge(self.db, self.project)

    def _say(self, what: str, **more: str) -> None:
        """Warn, once until it is well again."""
        if what not in self._said:
            self._said.add(what)
            event(f"rollout.{what}", level=logging.WARNING, flag=self.flag, arm="old", **more)


def _database(db: Any, aliases: Aliases) -> Database | None:
    """Return the database, or None where a host names none at all."""
    given = one_of(db, *aliases.values())
    named = settings.setting("database_url").value or settings.setting("supabase_url").value
    return None if given is None and not named else connect(given)


async def _listed(items: AsyncGenerator[T, None]) -> list[T]:
    async with aclosing(items):
        return [item async for item in items]
