"""The run of one unit of a job: steps as of any run, written together with those of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..database import Database
from .canonical import as_stored
from .run import Replay, Run
from .writer import GroupWriter


class UnitRun(Run):
    """One execution of a unit; made by `work`.

    Attributes:
        unit_key: of the unit.
        tries: this execution included.
    """

    def __init__(
        self, db: Database, claimed: Mapping[str, Any], owner: str, writer: GroupWriter
    ) -> None:
        answer = {**claimed, "status": "running", "analysis_json": None}
        super().__init__(db, answer, owner, Replay(fresh=frozenset(claimed["fresh"])))
        self.unit_key: str = claimed["unit_key"]
        self.tries: int = claimed["tries"]
        self._writer = writer

    async def _begin(self, intent: dict[str, Any]) -> Mapping[str, Any]:
        return await self._writer.begin(self._named(intent))

    async def _finish(self, done: dict[str, Any], size: int) -> Any:
        self._writer.put("finishes", self._named(done), size)
        return as_stored(done["output"]) if "output" in done else None

    def _named(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"run_id": self.id, "fence": self._fence, **item}
