"""Medians, and the table that is printed."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Line:
    """One row of the table. ``aim`` says what ``ratio`` should be; ``met`` is None where there is no aim."""

    part: str
    what: str
    ratio: str
    aim: str = ""
    met: bool | None = None
    detail: str = ""


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def side_by_side(sides: dict[str, Callable[[], Any]], rounds: int, warm: int = 1) -> dict[str, float]:
    """The median seconds of each side; in every round each runs once, in turn beginning with another."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(-warm, rounds):
        for i in range(len(names)):
            name = names[(turn + i) % len(names)]
            spent = seconds(sides[name])
            if turn >= 0:
                taken[name].append(spent)
    return {name: statistics.median(spent) for name, spent in taken.items()}


def at_least(value: float, aim: float) -> dict[str, Any]:
    return {"ratio": f"{value:.2f}", "aim": f">= {aim:g}", "met": value >= aim}


def at_most(value: float, aim: float) -> dict[str, Any]:
    return {"ratio": f"{value:.2f}", "aim": f"<= {aim:g}", "met": value <= aim}


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{len(os.sched_getaffinity(0))} cores, load {load}"


def show(lines: list[Line]) -> None:
    """Print the lines as a table."""
    rows = [("", "what", "ratio", "aim", "", "measured")]
    for line in lines:
        met = {None: "", True: "met", False: "MISSED"}[line.met]
        rows.append((line.part, line.what, line.ratio, line.aim, met, line.detail))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)) + f"  {row[5]}".rstrip()
        )
