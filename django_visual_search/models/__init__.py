"""The app's tables, a module for each topic: indexing (artifacts and findings too), feedback, ranking and learning.

Rows refer to an embedding field by its label and to products by model and primary key as text, since these belong to
the shop. ``Dashboard`` and ``Findability`` are proxies: pages of the admin with permissions of their own.
"""

from .feedback import Feedback, SearchLog
from .indexing import (
    Artifact,
    Dashboard,
    EmbeddingBatch,
    Findability,
    FindabilityFinding,
    IndexingAttempt,
    IndexingRun,
)
from .learning import EmbeddingHead, PictureFeatures, ServingSpace, TextHead
from .ranking import Evidence, RankingRule

__all__ = [
    "Artifact",
    "Dashboard",
    "EmbeddingBatch",
    "EmbeddingHead",
    "Evidence",
    "Feedback",
    "Findability",
    "FindabilityFinding",
    "IndexingAttempt",
    "IndexingRun",
    "PictureFeatures",
    "RankingRule",
    "SearchLog",
    "ServingSpace",
    "TextHead",
]
