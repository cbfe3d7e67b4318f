"""Rankers: what shoppers did, staff's rules, and variety. Each is a function of candidates and context, of its own."""

from ._diversity import diversity, mmr
from ._feedback import feedback
from ._merchandise import merchandise

__all__ = ["diversity", "feedback", "merchandise", "mmr"]
