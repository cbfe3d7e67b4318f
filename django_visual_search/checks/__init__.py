"""System checks of the project: settings, extractors, databases and broker. A field's own are in ``fields.checks``.

Entry function: ``register``, called once the apps are ready.
"""

from .project import register

__all__ = ["register"]
