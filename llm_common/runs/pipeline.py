"""What a job's units are worked on with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .outcomes import Outcome, Retries
from .unit_run import UnitRun

UnitFunction = Callable[[UnitRun, Mapping[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An async function of a unit's input, and how it is run.

    Attributes:
        name: jobs name it.
        unit: does one unit in steps of its run; returns what JSON can hold.
        version: jobs of a newer version are left to newer code.
        retries: of a unit whose error may pass, after those of its steps.
        steps: step -> its version, with the hash of its prompt if it has one; what `rerun` goes
            by when it looks for units that other versions have completed.
    """

    name: str
    unit: UnitFunction
    version: int = 1
    retries: Retries = field(default_factory=lambda: Retries(times=2))
    steps: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Ended:
    """A unit that is over, durably."""

    run_id: str
    unit_key: str
    status: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CommitHook:
    """A function of the host that is called with every so many units that are over.

    It is called by one process with the units of that process, one call at a time, and once more
    with the rest at the end. A process that is killed has told of all but the last few; what it
    raises stops the job's work in that process.
    """

    every: int
    call: Callable[[Sequence[Ended]], Awaitable[object]]
