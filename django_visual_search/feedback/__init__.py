"""Shoppers' reactions to the products they were shown, recorded under pseudonyms and summed up for ranking.

Entry: ``report`` takes events from a browser and ``record`` from the shop's own code (``recording``); ``log_search``
logs a search (``searches``); ``aggregate`` counts events into the evidence (``evidence``); ``privacy`` exports, erases
and purges.

An *event* is a click, a purchase and so on (``events``) about one product. A *showing* is how a search showed the
product. A *session* is a visitor's pseudonym, which changes with every period (``sessions``). *Evidence* is
the sums of gain and of exposure of each product, over all queries and for each query product.
"""

from .events import BadEvent, BadToken, NotOffered
from .evidence import aggregate
from .recording import Report, record, report
from .searches import log_search
from .sessions import session_of

__all__ = [
    "BadEvent",
    "BadToken",
    "NotOffered",
    "Report",
    "aggregate",
    "log_search",
    "record",
    "report",
    "session_of",
]
