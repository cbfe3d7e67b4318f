"""System checks of the project: settings, extractors, databases, broker. ``fields.checks`` has those of one field.

Entry function: ``register``, called once the apps are ready. ``checks_table`` lists the ids with what each reports.
"""

from .ids import checks_table
from .project import register

__all__ = ["checks_table", "register"]
