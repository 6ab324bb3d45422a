"""Who is at the units of a job: what dead processes held is queued again."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from ..cost_tracker import is_owner_alive
from ..database import Database

BEAT_S = 2.0
SILENT_S = 30.0
"""A process on another machine that shows no life for so long is given up; of this machine's, the
lock of its spool tells at once."""
MOST_INTERRUPTIONS = 5
"""Deaths of its process after which a unit is no longer tried."""


async def beat(
    db: Database, where: Mapping[str, str], shown: Mapping[str, str | int]
) -> Mapping[str, Any]:
    """Show that this process lives; return the job's status and who is at its units.

    Args:
        where: `project` and `job_id`.
        shown: `owner`, `slots` and `version` of the process.
    """
    asked = {**shown, "project": where["project"], "jobs": [where["job_id"]]}
    answer = await db.call("llm_worker_beat", asked)
    return answer["jobs"][0] if answer["jobs"] else {"status": "absent", "owners": []}


def dead_owners(db: Database, job: Mapping[str, Any], owner: str) -> list[str]:
    """Return the owners of units that no longer live, as far as this process can see."""
    return [
        other["owner"]
        for other in job["owners"]
        if other["owner"] != owner and _is_dead(db, other["owner"], other["silent_s"])
    ]


def unknown_units(job: Mapping[str, Any], owner: str, held: Set[str]) -> set[str]:
    """Return units that the database thinks are this process's own, and that it does not hold."""
    own = [other["units"] for other in job["owners"] if other["owner"] == owner]
    return {unit for units in own for unit in units or ()} - held


def _is_dead(db: Database, owner: str, silent_s: float | None) -> bool:
    alive = is_owner_alive(db, owner)
    if alive is not None:
        return not alive
    return silent_s is None or silent_s > SILENT_S


async def beat_everywhere(
    db: Database, project: str, shown: Mapping[str, str | int]
) -> list[Mapping[str, Any]]:
    """Show that this process lives; return the jobs that run, or whose units somebody holds."""
    answer = await db.call("llm_worker_beat", {**shown, "project": project, "jobs": None})
    return answer["jobs"]


async def reap(
    db: Database, where: Mapping[str, str], owners: list[str], units: list[str]
) -> Mapping[str, int]:
    """Queue again what was held; return how many units were, and how many have failed by it."""
    lost = {"owners": owners, "units": units, "most": MOST_INTERRUPTIONS}
    return await db.call("llm_units_reap", {**where, **lost})
