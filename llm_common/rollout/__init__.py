"""Rollouts: from an old implementation to a new one, unit by unit, measured and taken back."""

from ..context import refuse_in_shadow
from .buckets import bucket
from .evaluation import Choice, Force
from .guardrails import Guardrails
from .models import Exposure, Ramp, Segment, Shadowing, State
from .rollout import Rollout
from .shadow import Shadow

__all__ = [
    "Choice",
    "Exposure",
    "Force",
    "Guardrails",
    "Ramp",
    "Rollout",
    "Segment",
    "Shadow",
    "Shadowing",
    "State",
    "bucket",
    "refuse_in_shadow",
]
