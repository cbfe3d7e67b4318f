"""Send work to Celery. A save never fails because of it, and waits ``PUBLISH_SECONDS`` for a broker at most.

Entry function: ``enqueue``. Connections are kept between messages, because opening one takes longer than sending a
task. kombu's own pools would neither let go of idle connections nor leave the parent's ones alone after ``os.fork``.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import connections

from ..conf import conf

logger = logging.getLogger("django_visual_search")

PAUSE_SECONDS = 10.0
"""Seconds without a try after a broker failed; the sweep finds pictures that were not sent."""

IDLE_SECONDS = 60.0
"""Seconds that an unused connection is kept; a later save closes it."""


class _Kept(NamedTuple):
    app: Any
    connection: Any
    since: float


_idle: deque[_Kept] = deque()
"""The most recently used last, so that the others grow old."""
_inherited_connections: list[_Kept] = []
_failed_at: float | None = None


def enqueue(task: Any, *args: Any, **kwargs: Any) -> bool:
    """Send a task to ``QUEUE``. Return False, with a line in the log, if the broker does not take it.

    A broker that is down costs about ``PUBLISH_SECONDS`` now and nothing for the next ``PAUSE_SECONDS``. With
    ``task_always_eager`` the task runs here and now.
    """
    global _failed_at
    app = task.app
    if app.conf.task_always_eager:
        task.apply_async(args, kwargs)
        return True
    if _failed_at is not None and time.monotonic() - _failed_at < PAUSE_SECONDS:
        return False
    try:
        _publish(task, args, kwargs)
    except Exception as e:
        _failed_at = time.monotonic()
        logger.warning("visual search: the broker did not take %s (%s); the sweep will find its pictures", task.name, e)
        return False
    _failed_at = None
    close_oldest()
    return True


def in_background(task: Any, *args: Any) -> bool:
    """Send a task that takes long; without Celery's workers (``task_always_eager``) run it in a thread of this process.

    Return whether it was taken. A process that ends takes the thread with it: such tasks can be begun again.
    """
    if not task.app.conf.task_always_eager:
        return enqueue(task, *args)

    def work() -> None:
        try:
            task(*args)
        except Exception:
            logger.exception("visual search: %s failed", task.name)
        finally:
            connections.close_all()  # this thread's own

    threading.Thread(target=work, name=task.name, daemon=True).start()
    return True


def connect(app: Any) -> Any:
    """Return a new connection to the broker, with time limits of our own: kombu's Redis transport has none."""
    seconds = conf.PUBLISH_SECONDS
    options = {**(app.conf.broker_transport_options or {}), "max_retries": 0}
    # No heartbeat: nobody would send it between two saves, and the broker would close the connection.
    connection = app.connection_for_write(connect_timeout=seconds, heartbeat=0)
    if connection.transport_cls in ("amqp", "amqps", "pyamqp"):
        options.update(read_timeout=seconds, write_timeout=seconds)
    else:
        options.update(socket_timeout=seconds, socket_connect_timeout=seconds, retry_on_timeout=False)
    connection.transport_options = options
    return connection


def close_oldest(idle_seconds: float = IDLE_SECONDS) -> None:
    """Close a kept connection that was not used for that long: one at a time, as closing may wait for the broker."""
    oldest = _pop(_idle.popleft)
    if oldest is not None and time.monotonic() - oldest.since > idle_seconds:
        _close(oldest.connection)
    elif oldest is not None:
        _idle.appendleft(oldest)


@atexit.register
def disconnect() -> None:
    """Close all kept connections, and forget that the broker failed."""
    global _failed_at
    _failed_at = None
    while kept := _pop(_idle.pop):
        _close(kept.connection)


def _publish(task: Any, args: Any, kwargs: Any) -> None:
    kept = _pop(_idle.pop)
    if kept is not None:
        try:
            if kept.app is task.app:
                _publish_on(kept.connection, task, args, kwargs)
                return
            _close(kept.connection)
        except Exception as e:
            # The broker may have closed it since, as by its restart: that is worth a second try.
            logger.debug("visual search: a kept broker connection failed: %s", e)
    _publish_on(connect(task.app), task, args, kwargs)


def _publish_on(connection: Any, task: Any, args: Any, kwargs: Any) -> None:
    try:
        task.apply_async(args, kwargs, connection=connection, queue=conf.QUEUE, retry=False)
    except BaseException:
        _close(connection)
        raise
    _idle.append(_Kept(task.app, connection, time.monotonic()))


def _pop(pop: Callable[[], _Kept]) -> _Kept | None:
    """Return a kept connection, or None; other threads take them too."""
    try:
        return pop()
    except IndexError:
        return None


def _close(connection: Any) -> None:
    try:
        connection.release()
    except Exception as e:
        logger.debug("visual search: closing a broken broker connection: %s", e)


def _leave_to_parent() -> None:
    # Kept, not closed: closing would say goodbye in the parent's name.
    _inherited_connections.extend(_idle)
    _idle.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
