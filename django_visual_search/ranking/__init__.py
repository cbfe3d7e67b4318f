"""Rankers: what shoppers did (``feedback``), staff's rules (``merchandise``), and variety (``diversity``, ``mmr``).

A *ranker* is a function of candidates and context that returns the candidates in another order; ``types`` has both.
*Evidence* is what feedback was counted into; a *rule* pins, boosts or hides a product.
"""

from .rankers import diversity, feedback, merchandise, mmr

__all__ = ["diversity", "feedback", "merchandise", "mmr"]
