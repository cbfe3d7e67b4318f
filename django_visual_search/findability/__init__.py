"""Products that can't be found, and why: what the database says at any time, and what a check finds out."""

from .check import LIMIT, check, running
from .report import Reason, last_check, outdated, product_models, rows, totals

__all__ = ["LIMIT", "Reason", "check", "last_check", "outdated", "product_models", "rows", "running", "totals"]
