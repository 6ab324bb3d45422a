"""Caches in Postgres with one flight per key, over all processes; only answers are ever kept."""

from .counting import flush
from .leases import Owner
from .responses import Cached, LeaseCache, Terms
from .windowed import Ask, Kept, Layer, Produced, WindowCache, Windows

__all__ = [
    "Ask",
    "Cached",
    "Kept",
    "Layer",
    "LeaseCache",
    "Owner",
    "Produced",
    "Terms",
    "WindowCache",
    "Windows",
    "flush",
]
