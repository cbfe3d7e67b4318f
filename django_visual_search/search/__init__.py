"""Search: what looks like this product, and what looks like this photo.

Entry functions: ``similar_to`` and ``search_by_image``. A *query* is a vector in one space; *candidates* are the rows
that a search may return; the *plan* is an exact scan or a scan of the HNSW graph; a *hit* is a product with its
similarity and rank; a *ranking* is all places of a result, of which a page shows some.
"""

from .answer import next_page, search_by_image, similar_to
from .results import SearchHit, SearchResults

__all__ = ["SearchHit", "SearchResults", "next_page", "search_by_image", "similar_to"]
