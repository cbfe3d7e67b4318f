"""The REST API: a mixin for the shop's own viewset, and ready-made views for shops without an API."""

from .mixin import VisualSearchMixin

__all__ = ["VisualSearchMixin"]
