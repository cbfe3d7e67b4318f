"""A pooler before PostgreSQL in transaction mode, as pgbouncer: each transaction goes to the next server connection."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading

TERMINATE, QUERY, SYNC, READY, KEY, PARAMETER = b"X", b"Q", b"S", b"Z", b"K", b"S"


class Pooler:
    """Listens at ``127.0.0.1:port``, and shares ``size`` sessions of the server at ``path`` in turn."""

    def __init__(self, path, user, database, size=3):
        self.sessions = queue.Queue()
        self.used = []
        for _ in range(size):
            session = socket.socket(socket.AF_UNIX)
            self.used.append(session)
            session.connect(path)
            body = b"".join(word.encode() + b"\0" for word in ("user", user, "database", database)) + b"\0"
            session.sendall(struct.pack("!ii", len(body) + 8, 196608) + body)
            greeting = list(until_ready(session))
            self.sessions.put(session)
        self.parameters = b"".join(message(kind, body) for kind, body in greeting if kind == PARAMETER)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.server.close()
        for session in self.used:
            session.close()

    def ask_each(self, sql):
        """Return the first value that each session gives."""
        answers = []
        for session in self.used:
            session.sendall(message(QUERY, sql.encode() + b"\0"))
            [row] = [body for kind, body in until_ready(session) if kind == b"D"]
            answers.append(row[6:].decode())
        return answers

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError, EOFError), client:
            length, code = struct.unpack("!ii", exactly(client, 8))
            while code == 80877103 or code == 80877104:  # TLS, GSS
                client.sendall(b"N")
                length, code = struct.unpack("!ii", exactly(client, 8))
            exactly(client, length - 8)
            key = struct.pack("!ii", random.randrange(2**30, 2**31), 0)
            client.sendall(message(b"R", b"\0\0\0\0") + self.parameters + message(KEY, key) + message(READY, b"I"))
            session = None
            while True:
                kind, body = receive(client)
                if kind == TERMINATE:
                    return
                session = session or self.sessions.get()
                session.sendall(message(kind, body))
                if kind not in (QUERY, SYNC):
                    continue
                for answer in until_ready(session):
                    client.sendall(message(*answer))
                if answer == (READY, b"I"):
                    self.sessions.put(session)
                    session = None


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def exactly(end, count):
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def receive(end):
    kind = exactly(end, 1)
    [length] = struct.unpack("!i", exactly(end, 4))
    return kind, exactly(end, length - 4)


def until_ready(end):
    while True:
        answer = receive(end)
        yield answer
        if answer[0] == READY:
            return
