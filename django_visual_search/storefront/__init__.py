"""What the pages of a shop need of a search: only products that the visitor may see, logged, never in the page's way.

Entry functions: ``similar_items`` and ``search_by_photo``; call the second in a ``gate.photo_slot()``. A *card* is a
hit as a template shows it; a *slot* is the right to run one of the photo searches that a process allows at the same
time.
"""

from .searching import search_by_photo, similar_items, visible_within

__all__ = ["search_by_photo", "similar_items", "visible_within"]
