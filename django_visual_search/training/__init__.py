"""Learn heads and backbones from the shop's own catalogue and feedback, keep them, and switch a field to them.

In the order of a training: ``supervision.gather`` reads pictures, labels and features; ``head.baseline`` describes the
serving vectors; ``head.train`` learns a head, or ``finetuning.Finetuning`` a backbone and a head; ``head.keep_head``
stores it as a candidate; ``switching.announce`` lets it serve. A *backbone* turns pictures into features, a *head*
features into embeddings. May import ``evaluation``, ``learning``, ``spaces`` and everything below them.
"""
