"""Which parts of a picture a network looks at: a picture is found by the mean of its features over several views.

The usual name is test-time augmentation (A. Krizhevsky et al., "ImageNet classification with deep convolutional neural
networks", 2012: crops and their mirror images). Customers hold what they photograph into the middle, so that a view of
the middle leaves out much of the background and shows the thing larger; the whole picture keeps what fills it.
"""

from __future__ import annotations

from collections.abc import Iterable

WHOLE = ("whole",)

VIEWS = ("whole", "whole-mirrored", "centre", "centre-mirrored")

CENTRE = 0.7
"""Of a picture's side that is seen of it in the middle. Of 1, 0.875, 0.8 and 0.7 the best on grocery photos."""


def check_views(views: Iterable[str]) -> tuple[str, ...]:
    """The views without repetitions, in the order of VIEWS; ValueError for others and for none."""
    wanted = {views} if isinstance(views, str) else set(views)
    if not wanted or wanted - set(VIEWS):
        raise ValueError(
            f"views must be one or more of {', '.join(VIEWS)}, not {', '.join(map(str, wanted)) or 'none'}."
        )
    return tuple(view for view in VIEWS if view in wanted)


def picture_size(input_size: int, views: Iterable[str]) -> int:
    """Side in pixels of a picture of which each of the views is ``input_size`` pixels wide, or more."""
    return round(input_size / CENTRE) if any(view.startswith("centre") for view in views) else input_size
