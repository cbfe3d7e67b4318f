"""How well a field's search finds, measured on the shop's own pictures."""

from .served import evaluate_field
from .space import OTHER_PICTURES, VIEWS, measure_space

__all__ = ["OTHER_PICTURES", "VIEWS", "evaluate_field", "measure_space"]
