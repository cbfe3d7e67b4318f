"""System checks of the project: settings, extractors, databases, broker. ``fields.checks`` has those of one field.

Entry function: ``register``, called once the apps are ready. ``table`` lists the ids with what each reports.
"""

from .ids import table
from .project import register

__all__ = ["register", "table"]
