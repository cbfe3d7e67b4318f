"""A photo's way into the process: kept in memory, refused bodies read only so far, and the visitor's connection.

Entry functions: ``keep_in_memory``, ``drain`` and ``visitor_socket``.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from typing import Any

from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import HttpRequest


class PhotoUploadHandler(MemoryFileUploadHandler):
    """Keeps a file in memory whatever its size, which the view has limited.

    Django's own handlers write larger ones to a folder, where they stay if the process is killed, and fail where the
    disk is full.
    """

    def handle_raw_input(self, *args: Any, **kwargs: Any) -> None:
        self.activated = True


def keep_in_memory(request: HttpRequest) -> None:
    """Let no upload of this request reach the disk. Call it once its length is known to be small, before it is read."""
    if not hasattr(request, "_files"):  # else a middleware of the shop has read it
        request.upload_handlers.insert(0, PhotoUploadHandler(request))


DRAINED = 64 * 2**20
"""Most bytes of a refused body that are read and dropped."""
DRAIN_SECONDS = 1.0
"""Most seconds of that."""
DRAINS = 2
"""Most threads of a process that read refused bodies at the same time; further senders are cut off at once."""
DRAIN_CHUNK = 64 * 2**10


def drain(request: HttpRequest) -> None:
    """Read some of the rest of a body. Where a server closes with bytes unread, the client sees no response.

    A sender who is slow, or has more, is cut off, so that no server thread waits long for a refused body.
    """
    connection, thread = _socket_of(request), threading.get_ident()
    if len(_draining) >= DRAINS:
        _stop_reading(connection)
        return
    _draining.add(thread)
    ending = threading.Timer(DRAIN_SECONDS, _stop_reading, [connection])
    if connection is not None:
        ending.start()  # one read may wait for ever
    end, left, part = time.monotonic() + DRAIN_SECONDS, DRAINED, b""
    try:
        while left > 0 and time.monotonic() < end and (part := request.read(min(DRAIN_CHUNK, left))):
            left -= len(part)
    except (OSError, ValueError):  # the client has gone, or the body's file is closed
        pass
    finally:
        ending.cancel()
        _draining.discard(thread)
    if part:
        _stop_reading(connection)  # or the server would read the rest before the connection's next request


_draining: set[int] = set()
"""Ids of the threads that read refused bodies."""


def visitor_socket(request: HttpRequest) -> int | None:
    """Return the file descriptor of the visitor's connection, where the server gives it: gunicorn and uWSGI."""
    connection = _socket_of(request)
    if connection is not None:
        number = int(connection.fileno())
    else:
        uwsgi = sys.modules.get("uwsgi")
        number = int(uwsgi.connection_fd()) if uwsgi is not None else -1
    return number if number >= 0 else None


def _socket_of(request: HttpRequest) -> Any:
    return request.META.get("gunicorn.socket")


def _stop_reading(connection: Any) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
