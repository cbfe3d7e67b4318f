"""Rankers: what shoppers did, staff's rules, and variety. Each is a function of candidates and context, of its own."""

from .rankers import diversity, feedback, merchandise, mmr

__all__ = ["diversity", "feedback", "merchandise", "mmr"]
