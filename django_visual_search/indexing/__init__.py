"""Keeps vectors current: what is stale, claims and attempts, decode and inference, compare-and-set writes."""

from .claims import quarantine_lost
from .pipeline import Report, embed
from .stale import mark_stale, pending, stale, wanted_key
from .sweep import pending_keys, sweep

__all__ = ["Report", "embed", "mark_stale", "pending", "pending_keys", "quarantine_lost", "stale", "sweep", "wanted_key"]
