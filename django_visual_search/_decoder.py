"""The process that decodes pictures for indexing: reads requests on stdin, answers on stdout, ends with its parent.

Run as a script by ``decoding.py``. A picture that takes too much memory or time, or crashes the codec, ends this process only.
Request: 8-byte length, then a pickle of (picture bytes, options, size). Answer: one byte ``+`` or ``-``, 8-byte length, then raw RGB
bytes, or "code newline sentence". Both ends are the same program, so the pickle comes from ourselves.
"""

from __future__ import annotations

import pickle
import resource
import signal
import struct
import sys
from typing import BinaryIO

from django_visual_search import images


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other end closes."""
    while header := requests.read(8):
        (length,) = struct.unpack(">Q", header)
        data, options, size = pickle.loads(requests.read(length))
        try:
            picture = images.load(data, options=options, size=size)
            status, answer = b"+", picture.tobytes()
        except images.ImageRefused as e:
            status, answer = b"-", f"{e.code}\n{e}".encode()
        except MemoryError:
            status, answer = b"-", b"memory\nThis picture takes too much memory to decode. Save it smaller."
        answers.write(status + struct.pack(">Q", len(answer)) + answer)
        answers.flush()


def main() -> None:
    """``argv[1]``: megabytes of address space this process may take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes our stdin
    limit = int(sys.argv[1]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
