"""The public place of ``EmbeddingIndex``."""

from .fields.embedding import EmbeddingIndex

__all__ = ["EmbeddingIndex"]
