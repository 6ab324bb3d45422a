"""Tasks, deployments, keys and retry decisions: pure, no I/O beyond reading the registry file."""

from .decisions import AttemptState, Decision, GiveUp, NextDeployment, Policy, Retry, after
from .models import Deployment, LLMTask, ModelSpec
from .plan import plan
from .registry import ProviderSpec, Registry, Terms, load_registry
from .selection import Choice, Refuse, Send, Wait, choose

__all__ = [
    "AttemptState",
    "Choice",
    "Decision",
    "Deployment",
    "GiveUp",
    "LLMTask",
    "ModelSpec",
    "NextDeployment",
    "Policy",
    "ProviderSpec",
    "Refuse",
    "Registry",
    "Retry",
    "Send",
    "Terms",
    "Wait",
    "after",
    "choose",
    "load_registry",
    "plan",
]
