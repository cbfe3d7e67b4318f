"""Decode the photos that people search by, with one decoding process for each search that may run at the same time.

Entry function: ``decode_photo``; ``waiting_visitor`` names the connection whose end frees the process. The processes
start with the first search and end with this one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

from ..conf import conf
from ..images import Box, ImageOptions, ImageRefused
from ..images.options import BROKEN_PICTURE
from .child import DecodeSettings
from .decoder import NOBODY, Decoder, DecoderLost, PictureFile, Waiting, decode_settings

AHEAD = 2
"""A photo that takes long steps aside, and another is decoded meanwhile."""


class PhotoDecoders:
    """At most AHEAD decoders for each of ``PHOTO_SEARCHES_AT_ONCE``; the one that was used last is used next."""

    def __init__(self) -> None:
        self.idle: list[Decoder] = []
        self.busy = 0
        self.freed = threading.Condition()

    @contextlib.contextmanager
    def one(self, wait: float) -> Iterator[Decoder]:
        """Take a decoder. Raises DecoderLost after ``wait`` seconds without one."""
        with self.freed:
            if not self.freed.wait_for(lambda: self.busy < AHEAD * conf.PHOTO_SEARCHES_AT_ONCE, wait):
                raise DecoderLost("decode_time", "Too many photos are being decoded.")
            self.busy += 1
            decoder = self.idle.pop() if self.idle else Decoder()
        try:
            yield decoder
        finally:
            with self.freed:
                self.busy -= 1
                self.idle.append(decoder)
                self.freed.notify()


def decode_photo(photo: PictureFile, options: ImageOptions, size: int, crop: Box | None = None) -> NDArray[np.uint8]:
    """Return the photo's pixels, ``(size, size, 3)``, as ``images.load`` prepares them.

    Takes ``DECODE_SECONDS`` at most, or twice that where other photos come first. Raises ImageRefused, DecoderLost
    where the machine was too busy, HungUpError where ``waiting_visitor`` has gone, and ExtractorUnavailable where no
    decoding process can run.
    """
    return _decoded(photo, decode_settings(options, size, conf.DECODE_SECONDS, crop))


def decode_whole(photo: PictureFile, options: ImageOptions, size: int) -> NDArray[np.uint8]:
    """Return the photo's pixels, ``(height, width, 3)``, as ``images.load_whole`` gives them. As ``decode_photo``."""
    return _decoded(photo, decode_settings(options, size, conf.DECODE_SECONDS, whole=True))


def _decoded(photo: PictureFile, settings: DecodeSettings) -> NDArray[np.uint8]:
    with _decoders.one(wait=conf.DECODE_SECONDS) as decoder:
        [decoded] = decoder.decode([lambda: photo], settings, _waiting.get())
    if isinstance(decoded, DecoderLost) and decoded.code == "decode_crash":
        raise ImageRefused("corrupt", BROKEN_PICTURE) from decoded
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


@contextlib.contextmanager
def waiting_visitor(socket: int | None, step_aside: Callable[[], None] | None = None) -> Iterator[None]:
    """Within the block, end a decode when this socket is closed at its other end. None: nobody can tell.

    ``step_aside`` is called once where a decode takes longer than most; what it raises ends the decode.
    """
    before = _waiting.set(Waiting(socket, step_aside))
    try:
        yield
    finally:
        _waiting.reset(before)


_waiting: ContextVar[Waiting] = ContextVar("waiting", default=NOBODY)
_decoders = PhotoDecoders()


def _reset() -> None:
    global _decoders
    _decoders = PhotoDecoders()


# A child has none yet, and may have inherited a lock that nobody is left to release.
os.register_at_fork(after_in_child=_reset)
