"""The admin: visual search in the shop's product admin, and pages and tables of our own.

Entry: ``VisualSearchAdminMixin`` (``mixin``) adds a status column with its filter (``status_column``), two actions
(``attempts``), the nearest neighbours (``hits``) and a search by photo (``photo_page``) to the shop's ModelAdmin.
Pages: the dashboard (``dashboard``, ``ann_index``, ``usage``), the findability report (``findability``, ``duplicates``)
and the progress of an action (``batches``). Tables: ``attempts``, ``rules`` (with ``rule_form`` and ``rule_preview``),
``heads`` and ``records``. Shared: ``base``, ``products``.
"""

from . import attempts, dashboard, findability, heads, records, rules
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
