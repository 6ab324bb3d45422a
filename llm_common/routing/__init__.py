"""Tasks, deployments, keys and retry decisions: pure, no I/O beyond reading the registry file."""

from .decisions import AttemptState, Decision, GiveUp, NextDeployment, Policy, Retry, after
from .models import Deployment, LLMTask, ModelSpec
from .plan import plan
from .registry import ProviderSpec, Registry, load_registry

__all__ = [
    "AttemptState",
    "Decision",
    "Deployment",
    "GiveUp",
    "LLMTask",
    "ModelSpec",
    "NextDeployment",
    "Policy",
    "ProviderSpec",
    "Registry",
    "Retry",
    "after",
    "load_registry",
    "plan",
]
