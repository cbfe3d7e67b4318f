"""Decode pictures in a process of their own, which ``decoder.py`` starts with ``main``.

A picture that takes too much memory or time, or that crashes its codec, ends this process and nothing else. A *frame*
is one byte that says what it is, an 8-byte length and so many bytes. A request is a frame of settings, a frame for each
picture's file and an end frame. Once it has ended, a frame for each picture is its RGB bytes, or why it is refused;
before that, a frame without bytes says that a picture is finished and the next one is begun. The settings are a pickle,
as both ends are the same program. The answers are not: whoever breaks out of a codec here could otherwise run code in
the parent.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import warnings
from dataclasses import dataclass
from typing import IO

from PIL import Image

from .. import images
from ..images.options import gettext_noop

HEADER = struct.Struct(">cQ")
SIZE = struct.Struct(">II")
SETTINGS, PICTURE, END = b"s", b"p", b"e"
FINISHED, PIXELS, REFUSED = b".", b"+", b"-"
READY = b"."
"""The first byte that the process writes: it can decode."""
LEAST_BYTES = 2**24
"""Memory that any decoding process must be able to take: the pixels of five megapixels."""
TOO_MUCH_MEMORY = gettext_noop("This picture takes too much memory to decode. Save it smaller.")

FRESH = 75
"""Exit status for "memory ran out, but other pictures were decoded before": a new process may have enough."""


@dataclass(frozen=True)
class DecodeSettings:
    """The result of a picture, and the limits of decoding it."""

    options: images.ImageOptions
    size: int
    """Pixels of a side of the square."""
    cpu_seconds: float
    wall_seconds: float
    crop: tuple[float, float, float, float] | None = None
    area: images.Area | None = None
    """As for ``images.load``; the settings may change from one picture of a request to the next."""
    whole: bool = False
    """Answer with an ``images.load_whole`` picture instead, after its width and height (SIZE)."""


def main() -> None:
    """Answer requests from standard input; ``argv[1]``: megabytes of address space that this process may take."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")  # a file of thousands of faults would fill the log; its refusal says enough
    try_out()
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent has ended, in whatever way; flushing at exit would fail again


def try_out() -> None:
    """Decode a small picture; fail where the memory allowed is too little for any."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    images.load(file.getvalue(), size=32)
    bytearray(LEAST_BYTES)  # for the small one, what the interpreter had left over may have been enough


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests for ever. Raise EOFError or BrokenPipeError once the other end is closed."""
    settings: DecodeSettings
    decoded: list[tuple[bytes, bytes]] = []
    fresh = True
    while True:
        kind, body = receive(requests)
        if kind == SETTINGS:
            settings = pickle.loads(body)
        elif kind == PICTURE:
            if decoded:
                send(answers, FINISHED)
                answers.flush()
            decoded.append(decode(body, settings, fresh=fresh))
            fresh = False
        else:  # only now does the parent read
            for answer in decoded:
                send(answers, *answer)
            answers.flush()
            decoded.clear()


def decode(data: bytes, settings: DecodeSettings, *, fresh: bool) -> tuple[bytes, bytes]:
    """Return a picture's answer, (kind of the frame, its bytes). End this process where a limit of time is reached."""
    # Nobody handles these signals, so they end this process whatever the codec is doing, even if the parent is gone.
    signal.setitimer(signal.ITIMER_PROF, settings.cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, settings.wall_seconds)
    try:
        if settings.whole:
            picture = images.load_whole(data, options=settings.options, size=settings.size)
            return PIXELS, SIZE.pack(*picture.size) + picture.tobytes()
        picture = images.load(
            data, options=settings.options, crop=settings.crop, area=settings.area, size=settings.size
        )
        return PIXELS, picture.tobytes()
    except images.ImageRefused as e:
        if e.code == "memory" and not fresh:
            os._exit(FRESH)
        return REFUSED, json.dumps([e.code, e.message, e.values]).encode()
    except MemoryError:
        if not fresh:
            os._exit(FRESH)
        return REFUSED, json.dumps(["memory", TOO_MUCH_MEMORY, {}]).encode()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def send(pipe: IO[bytes], kind: bytes, body: bytes = b"") -> None:
    """Write a frame, at once: the other end would wake up for its header."""
    pipe.write(HEADER.pack(kind, len(body)) + body)


def receive(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    """Read a frame: (kind, bytes). Raise EOFError if the other end closes before its end."""
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    kind, length = HEADER.unpack(header)
    body = pipe.read(length)
    if len(body) < length:
        raise EOFError
    return kind, body
