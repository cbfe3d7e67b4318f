"""The process that decodes pictures for indexing: reads requests on stdin, answers on stdout, ends with its parent.

Run as a script by ``decoder_process.py``. A picture that takes too much memory or time, or crashes the codec, ends this
process only. First it says ``.``: it can decode. Request: two 8-byte lengths and a place, a pickle of (options, size,
seconds), and the picture's bytes; or 24 zero bytes, upon which the answers so far are sent. Answer: one byte ``+`` or
``-``, 8-byte length, then nothing, for the RGB bytes are at that place in the memory that both share, or "code newline
sentence". Both ends are the same program, so the pickle comes from ourselves.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
from typing import BinaryIO

from PIL import Image

from django_visual_search import images


def serve(requests: BinaryIO, answers: BinaryIO, shared: int) -> None:
    """Answer until the other end closes, as it does in whatever way the parent ends. ``shared``: a file descriptor."""
    pixels, known = None, b""
    while header := requests.read(24):
        of_settings, of_data, place = struct.unpack(">QQQ", header)
        if not of_settings:
            answers.flush()
            continue
        try:
            asked, data = requests.read(of_settings), requests.read(of_data)
            if asked != known:
                options, size, seconds = pickle.loads(asked)
                known = asked
            # Nobody handles SIGALRM, so it ends this process whatever the codec is doing, even if the parent is gone.
            signal.setitimer(signal.ITIMER_REAL, seconds)
            picture = images.load(data, options=options, size=size)
            rgb = picture.tobytes()
            start, end = place * len(rgb), (place + 1) * len(rgb)
            if pixels is None or len(pixels) < end:
                pixels = mmap.mmap(shared, 0)  # as large as the parent has made it by now
            pixels[start:end] = rgb
            status, answer = b"+", b""
        except images.ImageRefused as e:
            status, answer = b"-", f"{e.code}\n{e}".encode()
        except MemoryError:
            status, answer = b"-", b"memory\nThis picture takes too much memory to decode. Save it smaller."
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(status + struct.pack(">Q", len(answer)) + answer)


def try_out() -> None:
    """Decode a small picture; fails where the memory allowed is too little for any."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    images.load(file.getvalue(), size=32)


def main() -> None:
    """``argv[1]``: megabytes of address space this process may take; ``argv[2]``: descriptor of the shared memory."""
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try_out()
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[2]))
    except BrokenPipeError:
        os._exit(0)  # the parent was killed: nobody to tell, and flushing at exit would fail again


if __name__ == "__main__":
    main()
