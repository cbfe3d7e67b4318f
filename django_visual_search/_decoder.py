"""The process that decodes pictures for indexing: reads requests on stdin, answers on stdout, ends with its parent.

Run as a script by ``decoding.py``. A picture that takes too much memory or time, or crashes the codec, ends this
process only. First it says ``.``: it can decode. Request: 8-byte length, then a pickle of (picture bytes, options,
size, seconds). Answer: one byte ``+`` or ``-``, 8-byte length, then raw RGB bytes, or "code newline sentence". Both
ends are the same program, so the pickle comes from ourselves.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
import signal
import struct
import sys
from typing import BinaryIO

from PIL import Image

from django_visual_search import images


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other end closes, as it does in whatever way the parent ends."""
    while header := requests.read(8):
        (length,) = struct.unpack(">Q", header)
        try:
            data, options, size, seconds = pickle.loads(requests.read(length))
            # Nobody handles SIGALRM, so it ends this process whatever the codec is doing, even if the parent is gone.
            signal.setitimer(signal.ITIMER_REAL, seconds)
            picture = images.load(data, options=options, size=size)
            status, answer = b"+", picture.tobytes()
        except images.ImageRefused as e:
            status, answer = b"-", f"{e.code}\n{e}".encode()
        except MemoryError:
            status, answer = b"-", b"memory\nThis picture takes too much memory to decode. Save it smaller."
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(status + struct.pack(">Q", len(answer)) + answer)
        answers.flush()


def try_out() -> None:
    """Decode a small picture; fails where the memory allowed is too little for any."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    images.load(file.getvalue(), size=32)


def main() -> None:
    """``argv[1]``: megabytes of address space this process may take."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try_out()
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(0)  # the parent was killed: nobody to tell, and flushing at exit would fail again


if __name__ == "__main__":
    main()
