"""What an event is worth, and how much of it may come from one visitor or one network.

A click is the unit: the evidence's gain per look is then the chance of a click, corrected for position, and more where
shoppers did more than click.
"""

from __future__ import annotations

from typing import Any

from ..models import Feedback

Kind: Any = Feedback.Kind

WORTH = {
    Kind.CLICK: 1.0,
    Kind.FAVOURITE: 2.0,
    Kind.CART: 3.0,
    Kind.PURCHASE: 5.0,
    Kind.SKIP: -1.0,
    Kind.RETURN: -4.0,
}
"""Gain of each kind, on top of what came before.

Of those who click, a few in a hundred buy, so a purchase says more than a click, and so on in between. The numbers grow
slower than the odds do, or a single purchase would outweigh all clicks. A return takes back most of the purchase, but
not all: by its looks the product was what the shopper wanted. A skip takes back a click.
"""

BROWSER_KINDS = (Kind.IMPRESSION, Kind.CLICK, Kind.FAVOURITE, Kind.CART, Kind.SKIP)
"""What a shopper's browser may say; purchase and return are the shop's to say."""

LOOKED_AT = (Kind.CLICK, Kind.FAVOURITE, Kind.CART, Kind.PURCHASE, Kind.SKIP)
"""Who does this has seen the product: the event brings its impression along."""

# Anybody can make a browser say anything, so what browsers say is bounded, for one period (SESSION_DAYS) in which a
# visitor keeps his or her pseudonym. What is beyond these bounds is kept, and counts for nothing.
PRODUCT_GAIN = 3.0
"""Most that one session adds to a product, over all queries: as much as a cart. The least is a skip."""
SESSION_GAIN = 20.0
"""Gain (regardless of sign) after which nothing of a session counts, impressions neither, so that the rates of gain to
looks stay as they are: about the clicks of a long evening."""
NETWORK_SESSIONS = 20
"""Sessions of one network that count: those of a household or an office, not of a machine with many User-Agents."""
NETWORK_PRODUCT_SESSIONS = 1
"""Sessions of one network that count for one product: a machine can be as many visitors as it likes."""

SESSION_ROWS = 1_000
NETWORK_ROWS = 10_000
"""Events of one session and of one network that are kept in a period; the log says when others were dropped."""
