"""Bytes to a clean RGB picture (Pillow; no Django, no numpy). Skeleton of the interface."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1


class ImageRefused(ValueError):
    """Input that is not accepted as a picture: ``code`` for programs, ``str(e)`` a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ImageOptions:
    """Options of preprocessing."""
