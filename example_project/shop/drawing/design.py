"""The look of one product, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from .palette import COLOURS, METALS, WOODS, Colour
from .patterns import pattern
from .shapes import Mask


@dataclass(frozen=True)
class Design:
    kind: str
    form: str
    """One of the kind's forms, such as ``tapered`` for a mug."""
    colour: str
    """A name in ``palette.COLOURS``, as is ``second``."""
    second: str
    pattern: str | None
    """A name in ``patterns.NAMES``, or None for a plain one."""
    material: str
    """A name in ``palette.WOODS`` or ``METALS``."""
    seed: str

    @property
    def main(self) -> Colour:
        return COLOURS[self.colour]

    @property
    def other(self) -> Colour:
        return COLOURS[self.second]

    @property
    def fitting(self) -> Colour:
        """The colour of legs, frames, buckles."""
        return (WOODS | METALS)[self.material]

    @property
    def rng(self) -> Random:
        """A new generator at each use, so that two drawings of a design are equal."""
        return Random(self.seed)

    @cached_property
    def mask(self) -> Mask | None:
        return pattern(self.pattern, self.rng) if self.pattern else None

    def like(self, **changes: str) -> Design:
        return replace(self, **changes)
