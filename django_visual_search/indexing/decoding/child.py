"""Decode pictures in a process of their own: ``decoder.py`` runs this module as a script.

A picture that takes too much memory or time, or that crashes its codec, ends this process and nothing else. A *frame*
is one byte that says what it is, an 8-byte length and so many bytes. A request is a frame of settings, a frame for each
picture's file and an end frame; its answer is a frame for each picture: the RGB bytes, or why the picture is refused.
The settings are a pickle, as both ends are the same program. The answers are not: whoever breaks out of a codec here
could otherwise run code in the parent.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
import signal
import struct
import sys
from typing import IO

from PIL import Image

# As a script, this module is in no package.
from django_visual_search import images

HEADER = struct.Struct(">cQ")
SETTINGS, PICTURE, END = b"s", b"p", b"e"
PIXELS, REFUSED = b"+", b"-"
READY = b"."
"""The first byte that the process writes: it can decode."""


def main() -> None:
    """Answer requests from standard input; ``argv[1]``: megabytes of address space that this process may take."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests for ever. Raise EOFError or BrokenPipeError once the other end is closed."""
    settings: tuple[images.ImageOptions, int, float]
    decoded: list[tuple[bytes, bytes]] = []
    while True:
        kind, body = receive(requests)
        if kind == SETTINGS:
            settings = pickle.loads(body)
        elif kind == PICTURE:
            decoded.append(decode(body, *settings))
        else:  # only now does the parent read
            for answer in decoded:
                send(answers, *answer)
            answers.flush()
            decoded.clear()


def decode(data: bytes, options: images.ImageOptions, size: int, seconds: float) -> tuple[bytes, bytes]:
    """Return a picture's answer, (kind of the frame, its bytes). End this process after that many seconds."""
    # Nobody handles SIGALRM, so it ends this process whatever the codec is doing, even if the parent is gone.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return PIXELS, images.load(data, options=options, size=size).tobytes()
    except images.ImageRefused as e:
        return REFUSED, f"{e.code}\n{e}".encode()
    except MemoryError:
        return REFUSED, b"memory\nThis picture takes too much memory to decode. Save it smaller."
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def send(pipe: IO[bytes], kind: bytes, body: bytes = b"") -> None:
    """Write a frame."""
    pipe.write(HEADER.pack(kind, len(body)))
    pipe.write(body)


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


if __name__ == "__main__":
    main()
