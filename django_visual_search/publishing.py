"""Sends work to Celery without ever making a save wait for a broker or fail because of it."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from .conf import conf

logger = logging.getLogger("django_visual_search")

# A broker that failed is left alone for so many seconds; what is not sent meanwhile is found by the sweep.
PAUSE_SECONDS = 10.0

_local = threading.local()
_failed_at: float | None = None


def enqueue(task: Any, *args: Any) -> bool:
    """Send a task to the queue of the settings; False, and a line in the log, where the broker does not take it.

    Takes at most twice ``PUBLISH_SECONDS``. With ``task_always_eager`` the task runs here and now.
    """
    global _failed_at
    if task.app.conf.task_always_eager:
        task.apply_async(args)
        return True
    if _failed_at is not None and time.monotonic() - _failed_at < PAUSE_SECONDS:
        return False
    for fresh in (False, True):
        connection, is_new = _connection(task.app, fresh)
        try:
            task.apply_async(args, connection=connection, queue=conf.QUEUE, retry=False)
        except Exception as e:
            _drop()
            if is_new:
                _failed_at = time.monotonic()
                logger.warning("visual search: the broker did not take %s (%s); the sweep will find its pictures", task.name, e)
                return False
        else:
            _failed_at = None
            return True
    return False


def _connection(app: Any, fresh: bool) -> tuple[Any, bool]:
    """This thread's connection to the broker, with time limits of our own: kombu's Redis transport has none."""
    known = getattr(_local, "connection", None)
    if known is not None and not fresh and _local.owner == (os.getpid(), id(app)):
        return known, False
    seconds = conf.PUBLISH_SECONDS
    options = {**(app.conf.broker_transport_options or {}), "max_retries": 0}
    if app.connection_for_write().transport_cls in ("amqp", "amqps", "pyamqp"):
        options.update(read_timeout=seconds, write_timeout=seconds)
    else:
        options.update(socket_timeout=seconds, socket_connect_timeout=seconds, retry_on_timeout=False)
    _local.connection = app.connection_for_write(connect_timeout=seconds, transport_options=options)
    _local.owner = (os.getpid(), id(app))
    return _local.connection, True


def _drop() -> None:
    connection = getattr(_local, "connection", None)
    _local.connection = None
    if connection is not None:
        try:
            connection.release()
        except Exception as e:
            logger.debug("visual search: closing a broken broker connection: %s", e)
