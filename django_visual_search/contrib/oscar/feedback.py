"""Purchases and returns, from Oscar's own signals: entry function ``connect_signals``.

A purchase is recorded when Oscar places the order, with the shopper's request where the basket has it; an order placed
for a guest without one is recorded by the checkout's own signal, which has it. A return is recorded when an order or a
line gets one of ``OSCAR_RETURN_STATUSES``, or a shipping event of that name has some of a line's items. Each line
counts once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.db.models.signals import post_save
from oscar.apps.checkout.signals import post_checkout
from oscar.apps.order.signals import order_line_status_changed, order_placed, order_status_changed

from ... import feedback
from ...conf import conf

logger = logging.getLogger("django_visual_search")


def connect_signals() -> None:
    """Connect the receivers below."""
    for signal, receiver in (
        (order_placed, record_placed),
        (post_checkout, record_checked_out),
        (order_status_changed, record_order_status),
        (order_line_status_changed, record_line_status),
    ):
        signal.connect(receiver, dispatch_uid=f"django_visual_search.{receiver.__name__}")
    # Oscar has no signal of its own for shipping events.
    uid = f"django_visual_search.{record_shipping_event.__name__}"
    post_save.connect(record_shipping_event, sender="order.ShippingEventQuantity", dispatch_uid=uid)


def record_placed(order: Any, user: Any = None, **kwargs: Any) -> None:
    """Record the purchases of an order that says who bought: by its user, or by the request of its basket."""
    request = _request_of_basket(order.basket)
    if request is not None or _is_known(user):
        record_lines("purchase", order, order.lines.all(), user=user, request=request)


def record_checked_out(order: Any, user: Any = None, request: Any = None, **kwargs: Any) -> None:
    """Record the purchases that ``record_placed`` could not attribute; those that it did are not new."""
    if _request_of_basket(order.basket) is None and not _is_known(order.user):
        record_lines("purchase", order, order.lines.all(), user=user, request=request)


def record_order_status(order: Any, new_status: str, **kwargs: Any) -> None:
    """Record that a whole order came back."""
    if _is_return(new_status):
        record_lines("return", order, order.lines.all(), user=order.user)


def record_line_status(line: Any, new_status: str, **kwargs: Any) -> None:
    """Record that one line came back."""
    if _is_return(new_status):
        record_lines("return", line.order, [line], user=line.order.user)


def record_shipping_event(instance: Any, created: bool = True, raw: bool = False, **kwargs: Any) -> None:
    """Record that items of one line came back: Oscar's event handlers make a row for each line of an event."""
    kind = instance.event.event_type
    if created and not raw and (_is_return(kind.name) or _is_return(kind.code)):
        record_lines("return", instance.line.order, [instance.line], user=instance.line.order.user)


def record_lines(kind: str, order: Any, lines: Iterable[Any], *, user: Any = None, request: Any = None) -> None:
    """Record an event of each line whose product still exists."""
    for line in lines:
        if line.product is None:
            continue
        try:
            feedback.record(
                kind,
                line.product,
                user=user if _is_known(user) else None,
                request=request,
                reference=f"oscar order {order.number} line {line.pk}",
            )
        except ValueError:  # no companion: nothing is searched
            logger.exception("visual search: a %s of order %s was not recorded", kind, order.number)


def _is_known(user: Any) -> bool:
    return user is not None and bool(user.is_authenticated)


def _is_return(status: str) -> bool:
    return str(status).casefold() in {name.casefold() for name in conf.OSCAR_RETURN_STATUSES}


def _request_of_basket(basket: Any) -> Any:
    """Return the request that Oscar's pricing strategy of the basket was made for; None for an order by other means."""
    return getattr(basket.strategy, "request", None) if basket is not None and basket.has_strategy else None
