"""A TCP proxy before a real broker that can freeze, as the machine behind it would, or cut its connections."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Forwards ``127.0.0.1:port`` to ``target`` (host, port) in a thread of its own; a context manager."""

    def __init__(self, target):
        self.target = target
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.frozen = threading.Event()
        self.ends = {}
        self.selector = selectors.DefaultSelector()
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.selector.register(self.server, selectors.EVENT_READ)
        self.selector.register(self.woken, selectors.EVENT_READ)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.wake.send(b"q")
        self.thread.join()
        for one in (*self.ends, self.server, self.wake, self.woken):
            one.close()
        self.selector.close()

    def freeze(self):
        """Accept connections and bytes, and do nothing with them."""
        self.frozen.set()

    def cut(self):
        """Close every connection that is open, as a broker does when it restarts."""
        self.wake.send(b"c")

    def _run(self):
        while True:
            for key, _ in self.selector.select():
                one = key.fileobj
                if one is self.woken:
                    if self.woken.recv(1) == b"q":
                        return
                    for end in list(self.ends):
                        self._close(end)
                elif one is self.server:
                    self._accept()
                elif one in self.ends:
                    self._forward(one)

    def _accept(self):
        near, _ = self.server.accept()
        far = socket.create_connection(self.target)
        self.ends.update({near: far, far: near})
        for one in (near, far):
            self.selector.register(one, selectors.EVENT_READ)

    def _forward(self, one):
        with contextlib.suppress(OSError):
            data = one.recv(65536)
            if self.frozen.is_set() and data:
                return
            if data:
                self.ends[one].sendall(data)
                return
        self._close(one)

    def _close(self, one):
        for end in (one, self.ends.get(one)):
            if end in self.ends:
                del self.ends[end]
                self.selector.unregister(end)
                end.close()
