"""The REST API over Django REST framework.

Entry: ``VisualSearchMixin`` (``mixin``) adds *similar items*, searches by photo and by text, and the objects in a photo
to the shop's own viewset; ``viewset`` has the same for shops without an API, ``feedback`` takes reports from browsers.

A search's way: ``bodies`` refuses what is too long, ``inputs`` validates, ``filters`` says which products count,
``answers`` makes a page of hits with its cursor and ``facets``. ``schema`` describes all that for OpenAPI.
"""

from .mixin import VisualSearchMixin

__all__ = ["VisualSearchMixin"]
