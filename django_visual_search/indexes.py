"""The public place of ``EmbeddingIndex``."""

from .fields.indexes import EmbeddingIndex

__all__ = ["EmbeddingIndex"]
