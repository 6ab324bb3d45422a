"""The whole move of a host, as its operators and its users see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_common.rollout import bucket
from llm_common.testing import Fault, ProviderServer
from llm_common.testing.records import RecordedRequest
from tests.children import until
from tests.cli.command import Command
from tests.examples.deployment import Deployment, without_old_code
from tests.examples.load import Load, Seen, count, everywhere

FAULTS = 500


@dataclass
class Story:
    """A host under load, and those who operate it.

    Attributes:
        models: of the new arm; the old one uses others.
        old, new: how the two answer.
        is_broken: whether the provider refuses the new arm's models.
    """

    name: str
    flag: str
    models: frozenset[str]
    old: str
    new: str
    host: Deployment
    load: Load
    provider: ProviderServer
    operator: Command
    is_broken: bool = False

    def __post_init__(self) -> None:
        faults = [Fault.status(400)] * FAULTS
        self.provider.script(*faults, match=lambda r: self.is_broken and self.is_of_new(r))

    def is_of_new(self, request: RecordedRequest) -> bool:
        """Whether the new arm has sent this."""
        return request.model in self.models

    async def command(self, *words: str) -> Any:
        """Run `llm-common rollout …`; it must succeed."""
        ended = await self.operator("rollout", *words, "--json")
        assert ended.code == 0, ended.out + ended.err
        return ended.json

    async def set(self, to: str) -> None:
        """Decide, as an operator does."""
        await self.command("set", to, "--flag", self.flag, "--reason", f"to {to}")

    async def served_by(self, arm: str) -> None:
        """Wait until every process answers by this arm alone."""
        await self.load.until(lambda seen: everywhere(seen, arm, self.host.workers))

    async def status(self) -> Any:
        """Return how the rollout stands."""
        return await self.command("status", "--flag", self.flag)

    async def tell(self, folder: Path) -> None:
        """Go through all of it, while users ask."""
        await self.deployed_with_the_flag_off()
        await self.in_the_shadow()
        before = 0
        for percent in (10, 50, 100):
            await self.for_a_part(percent, before)
            before = percent
        await self.a_regression_rolls_back_by_itself()
        await self.reset_and_on_again()
        await self.killed_without_a_restart()
        await self.switched_off_by_the_environment()
        await self.without_the_old_code(folder)

    async def tell_briefly(self) -> None:
        """Go there and back, while users ask."""
        await self.deployed_with_the_flag_off()
        await self.for_a_part(50, 0)
        await self.killed_without_a_restart()

    async def deployed_with_the_flag_off(self) -> None:
        await self.load.until(lambda seen: count(seen, self.old) >= 20)
        assert count(self.load.seen, self.new) == 0
        assert not any(map(self.is_of_new, self.provider.requests))

    async def in_the_shadow(self) -> None:
        await self.set("shadow")
        mark = len(self.load.seen)
        await until(lambda: sum(map(self.is_of_new, self.provider.requests)) >= 10)
        await self.load.until(lambda seen: len(seen) >= 10)
        assert count(self.load.seen[mark:], self.new) == 0

    async def for_a_part(self, percent: int, before: int) -> None:
        """Each process serves the units that are now added by the new arm, and no others."""
        await self.set(str(percent))

        def is_added(seen: Seen) -> bool:
            return before * 100 <= bucket(self.flag, seen.unit) < percent * 100

        def are_in_force(seen: list[Seen]) -> bool:
            added = {one.worker for one in seen if one.by == self.new and is_added(one)}
            return self.host.workers <= added

        await self.load.until(are_in_force)
        mark = len(self.load.seen)
        await self.load.until(lambda seen: len(seen) >= 40)
        # What was under way at the change is still among the first.
        assert self.misplaced(self.load.seen[mark + 10 :], percent) == []

    def misplaced(self, seen: Iterable[Seen], percent: int) -> list[Seen]:
        """Return the answers by another arm than the unit's bucket says."""
        return [
            one
            for one in seen
            if (one.by == self.new) != (bucket(self.flag, one.unit) < percent * 100)
        ]

    async def a_regression_rolls_back_by_itself(self) -> None:
        self.is_broken = True
        # The old code answers from the first failure on: that alone is not the rollback yet.
        await until(self.was_rolled_back, timeout_s=240)
        self.is_broken = False
        # Nobody calls the new models any more, whether they are well again or not.
        await self.served_by(self.old)
        assert await self.rollbacks_by() == ["guardrails"]

    async def was_rolled_back(self) -> bool:
        """Whether the decision is in the log."""
        return bool(await self.rollbacks_by())

    async def rollbacks_by(self) -> list[str]:
        """Return who rolled back, each time."""
        decisions = (await self.command("log", "--flag", self.flag))["decisions"]
        return [d["actor"] for d in decisions if d["action"] == "roll_back"]

    async def reset_and_on_again(self) -> None:
        refused = await self.operator("rollout", "set", "100", "--flag", self.flag, "--reason", "x")
        assert refused.code != 0
        assert "reset" in refused.complaint
        await self.command("reset", "--flag", self.flag, "--reason", "the models are well again")
        await self.set("100")
        await self.served_by(self.new)

    async def killed_without_a_restart(self) -> None:
        workers = set(self.host.workers)
        await self.command("set", "off", "--reason", "kill switch")
        await self.served_by(self.old)
        assert self.host.workers == workers
        await self.set("on")
        await self.served_by(self.new)

    async def switched_off_by_the_environment(self) -> None:
        await self.host.deploy(USE_NEW_LLM_FRAMEWORK="false")
        await self.served_by(self.old)
        await self.host.deploy()
        await self.served_by(self.new)

    async def without_the_old_code(self, folder: Path) -> None:
        await self.host.deploy(without_old_code(self.name, folder))
        await self.served_by(self.new)
        await self.load.until(lambda seen: count(seen, self.new) >= 20)
