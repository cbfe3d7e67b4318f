"""Rankers: what shoppers did, staff's rules, and variety. Each is a function of candidates and context, of its own."""

from .by_feedback import feedback
from .by_rules import merchandise
from .by_variety import diversity, mmr

__all__ = ["diversity", "feedback", "merchandise", "mmr"]
