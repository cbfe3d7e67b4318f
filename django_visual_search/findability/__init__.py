"""Products that can't be found, and why.

Entry: ``count_unfindable`` and ``unfindable_products`` report them (``report``); ``check`` looks for drowned products
and duplicate pictures, which takes minutes, and stores findings (``check``).

A *reason* says why a product can't be found. A product is *drowned* where look-alikes come before it in searches for
its own picture. A *finding* is what a check stored about one picture.
"""

from .check import LIMIT, check, running
from .report import Reason, count_unfindable, last_check, outdated, product_models, unfindable_products

__all__ = [
    "LIMIT",
    "Reason",
    "check",
    "count_unfindable",
    "last_check",
    "outdated",
    "product_models",
    "running",
    "unfindable_products",
]
