"""Analyses whose every statement carries quotes that code has checked."""

from .asking import Paused, Subject
from .models import BillAnalysis, Evidence, Impact, ReviewCritique, Source, SourceReference
from .pipeline import STEPS, AnalysisPipeline, Step
from .preset import BILL, Preset, Prompts

__all__ = [
    "BILL",
    "STEPS",
    "AnalysisPipeline",
    "BillAnalysis",
    "Evidence",
    "Impact",
    "Paused",
    "Preset",
    "Prompts",
    "ReviewCritique",
    "Source",
    "SourceReference",
    "Step",
    "Subject",
]
