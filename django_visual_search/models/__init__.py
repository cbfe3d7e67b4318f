"""Tables of the app: bookkeeping of indexing, feedback of shoppers, what was learned from it."""

from .feedback import Feedback, SearchLog
from .findability import Findability, FindabilityFinding
from .indexing import Artifact, Dashboard, IndexingAttempt, IndexingRun
from .learning import EmbeddingHead, PictureFeatures, ServingSpace
from .ranking import Evidence, RankingRule

__all__ = [
    "Artifact",
    "Dashboard",
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
]
