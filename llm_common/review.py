"""Review queues: values that no evidence settles wait for a person's word."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from .database import Database
from .errors import InvalidInputError, JobStateError

Action = Literal["accept", "correct", "reject"]
State = Literal["open", "accepted", "corrected", "rejected"]

_STATES: Mapping[Action, State] = {
    "accept": "accepted",
    "correct": "corrected",
    "reject": "rejected",
}
PAGE = 200


@dataclass(frozen=True, slots=True)
class Doubt:
    """A value that wants a look.

    Attributes:
        field: what it is a value of, such as a column.
        value: the likeliest; None if there is none to accept.
        details: what speaks for and against it; JSON.
        reason: why it is not settled.
    """

    field: str
    value: Any
    details: Mapping[str, Any]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """A doubt in the queue, and what was decided of it.

    Attributes:
        decided: the value that holds now: the accepted or the corrected one, None if rejected.
        by: who decided, as the host named them.
        place: in the order of the queue; `after` of `reviews` takes it.
    """

    id: str
    job_id: str
    run_id: str
    unit_key: str
    field: str
    value: Any
    details: Mapping[str, Any]
    reason: str | None
    state: State
    decided: Any
    by: str | None
    note: str | None
    created_at: datetime
    decided_at: datetime | None
    place: int


async def put_doubts(
    db: Database, where: Mapping[str, str], run_id: str, unit_key: str, doubts: Sequence[Doubt]
) -> None:
    """Queue what a run is in doubt of, in place of what it was in doubt of before.

    What was decided stays as it is.

    Args:
        where: `project` and `job_id`.
    """
    items = [
        {
            "id": str(uuid5(NAMESPACE_URL, f"llm_common:review:{run_id}:{doubt.field}")),
            "field": doubt.field,
            "value": doubt.value,
            "details": doubt.details,
            "reason": doubt.reason,
        }
        for doubt in doubts
    ]
    named = {**where, "run_id": run_id, "unit_key": unit_key}
    await db.call("llm_reviews_put", {**named, "items": items})


async def reviews(
    db: Database,
    project: str,
    *,
    job_id: str | None = None,
    state: State | None = "open",
    run_ids: Sequence[str] | None = None,
    after: int = 0,
    limit: int | None = None,
) -> AsyncGenerator[Review]:
    """Yield reviews in the order in which they came, some hundred at a time.

    Args:
        limit: at most so many.
        state: None yields them in any.
    """
    asked = {
        "project": project,
        "job_id": job_id,
        "state": state,
        "run_ids": run_ids if run_ids is None else list(run_ids),
    }
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = {"after": after, "limit": size}
        found = (await db.call("llm_reviews_list", {**asked, **page}))["reviews"]
        for row in found:
            yield _review(row)
        if len(found) < size:
            return
        after = found[-1]["place"]
        left = None if left is None else left - len(found)


async def decide(
    db: Database,
    project: str,
    review_id: str,
    action: Action,
    *,
    value: Any = None,
    by: str | None = None,
    note: str | None = None,
) -> Review:
    """Accept, correct or reject a value; the same decision again changes nothing.

    Args:
        value: the right one, for ``correct``.

    Raises:
        InvalidInputError: there is no such review, nothing to accept, or no value to correct it.
        JobStateError: it was decided otherwise.
    """
    if action not in _STATES:
        raise InvalidInputError(f"no action {action!r}: use accept, correct or reject")
    if (action == "correct") != (value is not None):
        raise InvalidInputError("a correction needs its value, and nothing else takes one")
    asked = {
        "project": project,
        "id": _uuid(review_id),
        "state": _STATES[action],
        "decided": value,
        "by": by,
        "note": note,
    }
    if action == "accept":
        await _check_acceptable(db, project, review_id)
    answer = await db.call("llm_review_decide", asked)
    if answer.get("absent"):
        raise InvalidInputError(f"project {project} has no review {review_id}")
    if refused := answer.get("refused"):
        raise JobStateError(f"review {review_id} was {refused['state']} already")
    return _review(answer["review"])


async def find_review(db: Database, project: str, review_id: str) -> Review:
    """Return one review.

    Raises:
        InvalidInputError: the project has none of this id.
    """
    _uuid(review_id)
    answer = await db.call("llm_review_find", {"project": project, "id": review_id})
    if answer is None:
        raise InvalidInputError(f"project {project} has no review {review_id}")
    return _review(answer)


async def _check_acceptable(db: Database, project: str, review_id: str) -> None:
    if (await find_review(db, project, review_id)).value is None:
        raise InvalidInputError(f"review {review_id} has no value to accept: correct or reject it")


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is no id of a review") from error


def _review(row: Mapping[str, Any]) -> Review:
    decided_at = row["decided_at"]
    return Review(
        id=row["id"],
        job_id=row["job_id"],
        run_id=row["run_id"],
        unit_key=row["unit_key"],
        field=row["field"],
        value=row["value"],
        details=row["details"],
        reason=row["reason"],
        state=row["state"],
        decided=row["decided"],
        by=row["decided_by"],
        note=row["note"],
        created_at=datetime.fromisoformat(row["created_at"]),
        decided_at=None if decided_at is None else datetime.fromisoformat(decided_at),
        place=row["place"],
    )
