"""Fine-tune a whole backbone on a shop's pictures, in a process of its own that imports TensorFlow.

Entry function: ``finetune``. ``python -m django_visual_search.learning.finetune REQUEST`` is that process; ``loss``,
``training`` and ``augmentation`` are loaded there only.
"""

from .launch import finetune

__all__ = ["finetune"]
