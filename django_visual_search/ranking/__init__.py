"""Rankers: by feedback (``feedback``), by staff's rules (``merchandise``), for variety (``diversity``, ``mmr``).

Entry functions: ``rankers.rankers_for`` chooses a search's rankers, ``reading`` reads what they need.

A *ranker* is a function of candidates and context that returns the candidates in another order; ``types`` has both.
*Evidence* is the sum of counted feedback; a *rule* pins, boosts or hides a product.
"""

from .rankers import diversity, feedback, merchandise, mmr

__all__ = ["diversity", "feedback", "merchandise", "mmr"]
