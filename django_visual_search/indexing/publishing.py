"""Sends work to Celery without ever making a save wait for a broker or fail because of it."""

from __future__ import annotations

import atexit
import logging
import os
import time
from typing import Any

from ..conf import conf

logger = logging.getLogger("django_visual_search")

# A broker that failed is left alone for so many seconds; what is not sent meanwhile is found by the sweep.
PAUSE_SECONDS = 10.0

# Connections of this process that are kept open between messages, as many as were ever in use at the same time.
_idle: list[tuple[Any, Any]] = []
_inherited: list[Any] = []
_failed_at: float | None = None


def enqueue(task: Any, *args: Any, **kwargs: Any) -> bool:
    """Send a task to the queue of the settings; False, and a line in the log, where the broker does not take it.

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
        # A connection that was idle may have been closed by the broker, as by its restart: that is worth a second try.
        if not _publish_on_idle(task, args, kwargs):
            _publish(connect(app), task, args, kwargs)
    except Exception as e:
        _failed_at = time.monotonic()
        logger.warning("visual search: the broker did not take %s (%s); the sweep will find its pictures", task.name, e)
        return False
    _failed_at = None
    return True


def connect(app: Any) -> Any:
    """A new connection to the broker, with time limits of our own: kombu's Redis transport has none."""
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


def _publish_on_idle(task: Any, args: Any, kwargs: Any) -> bool:
    while _idle:
        app, connection = _idle.pop()
        if app is not task.app:
            _close(connection)
            continue
        try:
            _publish(connection, task, args, kwargs)
        except Exception as e:
            logger.debug("visual search: a broker connection is of no use any more: %s", e)
            return False
        return True
    return False


def _publish(connection: Any, task: Any, args: Any, kwargs: Any) -> None:
    try:
        task.apply_async(args, kwargs, connection=connection, queue=conf.QUEUE, retry=False)
    except BaseException:
        _close(connection)
        raise
    _idle.append((task.app, connection))


def _close(connection: Any) -> None:
    try:
        connection.release()
    except Exception as e:
        logger.debug("visual search: closing a broken broker connection: %s", e)


@atexit.register
def close_idle() -> None:
    """Close the connections that are kept open."""
    while _idle:
        _close(_idle.pop()[1])


def _leave_to_parent() -> None:
    # Kept, not closed: closing would say goodbye in the parent's name.
    _inherited.extend(_idle)
    _idle.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
