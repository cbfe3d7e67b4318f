"""The admin: our own tables and the dashboard, and ``VisualSearchAdminMixin`` for the shop's product admin."""

from . import attempts, dashboard, findability, records, rules
from .mixin import VisualSearchAdminMixin
from .photo_page import StaffPhotoForm

__all__ = [
    "StaffPhotoForm",
    "VisualSearchAdminMixin",
    "attempts",
    "dashboard",
    "findability",
    "heads",
    "records",
    "rules",
]
