"""Fine-tune a whole backbone on a shop's pictures, in a process of its own that imports TensorFlow.

Entry function: ``finetune``. ``python -m django_visual_search.learning.finetune REQUEST`` is that process; only it
imports ``run`` and ``training``.
"""

from .launch import finetune

__all__ = ["finetune"]
