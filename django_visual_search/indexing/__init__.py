"""Keeps vectors current: what is stale, claims and attempts, decode and inference, compare-and-set writes."""

from .claims import quarantine_lost
from .pipeline import embed
from .runs import Report
from .stale import claimed, mark_stale, outdated, pending, stale
from .sweeping import forget_needless, pending_keys, settle, sweep

__all__ = [
    "Report",
    "claimed",
    "embed",
    "forget_needless",
    "mark_stale",
    "outdated",
    "pending",
    "pending_keys",
    "quarantine_lost",
    "settle",
    "stale",
    "sweep",
]
