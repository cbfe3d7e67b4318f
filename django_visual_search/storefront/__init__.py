"""Searches for the shop's pages: within what the visitor may see, and logged. Similar items that fail are just empty.

Entry functions: ``similar_items``, ``search_by_words``, ``search_by_photo`` in a ``gate.photo_slot()``, and
``search_by_handle``. A *card* is a hit as a template shows it. A *handle* names the vectors of a photo that was
searched by. A *slot* is the right to run one of the photo searches that a process allows at the same time. A *refusal*
is the reason, as pages and API give it, for a photo search without hits: ``refusal_of`` gives it for an error.
"""

from .handles import HandleExpired, handle_of
from .refusals import PHOTO_ERRORS, refusal_of
from .searching import search_by_handle, search_by_photo, search_by_words, similar_items
from .visibility import visible_within

__all__ = [
    "PHOTO_ERRORS",
    "HandleExpired",
    "handle_of",
    "refusal_of",
    "search_by_handle",
    "search_by_photo",
    "search_by_words",
    "similar_items",
    "visible_within",
]
