"""A look at a rollout: read the tally, let the guardrails judge it, write the decision down."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any
from uuid import uuid4

from ..database import Database
from ..telemetry import event
from .buckets import BUCKETS, percent_of
from .guardrails import ArmTally, Finding, Guardrails, Tally, decide, findings
from .models import State

LOOK_EVERY_S = 2.0
"""One process looks per interval, whoever is first."""
GRACE_S = 300.0
"""An outcome that is not stored after so long is lost."""
EPOCH = 1_000
"""Outcomes of the new arm after which the tests begin anew: what was right for long must not hide
what goes wrong now.
"""
ACTOR = "guardrails"


async def look(
    db: Database, project: str, flag: str, guardrails: Guardrails, *, at_once: bool = False
) -> str | None:
    """Judge a rollout, if it is this process's turn; return what was decided.

    Args:
        at_once: do not wait for a turn; after failures in a row.
    """
    asked = {
        "project": project,
        "flag": flag,
        "every_s": LOOK_EVERY_S,
        "slow_ms": round(guardrails.p95_s * 1000),
        "grace_s": GRACE_S,
        "at_once": at_once,
    }
    answer = await db.call("llm_rollout_look", asked)
    if answer["state"] is None:
        return None
    state = State.model_validate(answer["state"])
    tally = tally_of(answer)
    found = findings(tally, guardrails)
    ramp = state.ramp
    action, reason = decide(
        found,
        tally,
        min_exposures=ramp.min_exposures if ramp else guardrails.min_exposures,
        min_seconds=ramp.min_seconds if ramp else 0.0,
    )
    decision = next_decision(state, tally, action, reason)
    if decision is None:
        return action
    payload = {
        **decision,
        "project": project,
        "flag": flag,
        "actor": ACTOR,
        "evidence": evidence_of(found),
        "revision": state.revision,
    }
    await db.call("llm_rollout_decide", {"decision_id": str(uuid4()), **payload})
    if decision["action"] != "epoch":
        level = logging.WARNING if action == "roll_back" else logging.INFO
        event(f"rollout.{action}", level=level, flag=flag, revision=state.revision + 1)
    return action


def next_decision(state: State, tally: Tally, action: str, reason: str) -> dict[str, Any] | None:
    """Return what to write down after a verdict; None where everything stays as it is. Pure."""
    if action == "roll_back":
        return {"action": "roll_back", "reason": reason, "to": {"mode": "off", "ramp": None}}
    step = state.ramp.after(state.share) if state.ramp and state.mode == "percent" else None
    if action == "advance" and step is not None:
        mode = "on" if step == BUCKETS else "percent"
        reason = f"to {percent_of(step)} %: {reason}"
        return {"action": "advance", "reason": reason, "to": {"mode": mode, "share": step}}
    full = max(EPOCH, state.ramp.min_exposures if state.ramp else 0)
    if tally.new.finished >= full:
        return {"action": "epoch", "reason": f"{tally.new.finished} outcomes of the new arm"}
    return None


def tally_of(answer: Mapping[str, Any]) -> Tally:
    """Read what `llm_rollout_look` answers. Pure."""
    everywhere = str(BUCKETS) in answer["new"]["units"]
    return Tally(
        new=_arm(answer["new"]),
        old=_arm(answer["old"]),
        failures_in_a_row=answer["failures"],
        has_control=bool(answer["old"]["units"]) or not everywhere,
        seconds=answer["seconds"],
    )


def evidence_of(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON. Pure."""
    return [asdict(finding) for finding in found]


def _arm(counts: Mapping[str, Any]) -> ArmTally:
    units = {int(share): units for share, units in counts["units"].items()}
    return ArmTally(
        units={share: number for share, number in units.items() if 0 < share < BUCKETS},
        finished=counts["finished"],
        errors=counts["errors"],
        slow=counts["slow"],
        due=counts["due"],
        lost=counts["lost"],
        vanished=counts["vanished"],
        costs=tuple(Decimal(cost) for cost in counts["costs"]),
        unpriced=counts["unpriced"],
    )
