"""Products that can't be found, and why.

Entry: ``count_unfindable`` and ``unfindable_products`` report them (``report``); ``check`` takes minutes to look for
drowned products and duplicate pictures, and stores findings (``check``).

A *reason* says why a product can't be found. A product is *drowned* where look-alikes come before it in searches for
its own picture. A *finding* is what a check stored about one picture.
"""

from .check import CHECK_LIMIT, check, running
from .report import Reason, check_is_outdated, count_unfindable, last_check, product_models, unfindable_products

__all__ = [
    "CHECK_LIMIT",
    "Reason",
    "check",
    "check_is_outdated",
    "count_unfindable",
    "last_check",
    "product_models",
    "running",
    "unfindable_products",
]
