"""Extractors turn clean RGB images into embeddings. Nothing in this package imports Django."""

from .base import ArtifactStore, DirectoryStore, Extractor, ExtractorSpec, ExtractorUnavailable

__all__ = ["ArtifactStore", "DirectoryStore", "Extractor", "ExtractorSpec", "ExtractorUnavailable"]
