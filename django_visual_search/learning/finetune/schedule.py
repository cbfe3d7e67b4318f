"""The learning rate of each step: a warm-up, then half a cosine down to nothing by the last epoch that time allows."""

from __future__ import annotations

import math

WARM_UP = 0.08
"""Share of all steps in which the learning rate rises to its full height."""

RESERVE_SECONDS = 20.0
"""Kept of the time allowed for the export."""


def factor(progress: float) -> float:
    """The learning rate, as a share of the full one, when ``progress``, 0 to 1, of the training is done (I. Loshchilov
    and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017)."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def advanced(progress: float, steps_left: int) -> float:
    """``progress`` after one of ``steps_left`` steps. By what is left and not by what was planned, so that the rate
    still falls smoothly to nothing when less or more time is found to be there."""
    return progress + (1 - progress) / max(1, steps_left)


def epochs_in_time(wanted: int, done: int, spent: float, epoch: float, allowed: float | None) -> int:
    """How many of the ``wanted`` epochs can be had, ``done`` and at least one among them.

    ``spent``, ``epoch``, ``allowed``: seconds until now, of an epoch, and in all; None for as long as it takes.
    """
    if allowed is None or epoch <= 0:
        return wanted
    more = int((allowed - RESERVE_SECONDS - spent) / epoch)
    return min(wanted, max(done + more, done, 1))
