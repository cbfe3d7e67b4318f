"""Measure how well a field's search finds, on the shop's own pictures.

Entry functions: ``evaluate_field`` measures the search as it serves now; ``measure_space`` any extractor. ``figures``
holds the results, ``text`` and ``report`` show them. A *task* says what the query is and which hits are right; the
*gallery* is what may be found; *altered views* stand in for a second picture of a product. May import ``search``,
``indexing``, ``spaces``, ``learning`` and everything below them.
"""

from .served import evaluate_field
from .space import ALTERED_VIEWS, OTHER_PICTURES, measure_space

__all__ = ["ALTERED_VIEWS", "OTHER_PICTURES", "evaluate_field", "measure_space"]
