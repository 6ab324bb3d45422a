"""Quotes verified against the text that they are said to come from; pure, no model asked."""

from .passages import Passages, Status, Verdict, find_best, verify

__all__ = ["Passages", "Status", "Verdict", "find_best", "verify"]
