"""Tasks, deployments, keys and retry decisions: pure, no I/O beyond reading the registry file."""

from .models import Deployment, LLMTask, ModelSpec

__all__ = ["Deployment", "LLMTask", "ModelSpec"]
