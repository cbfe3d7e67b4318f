"""Tables of the app: bookkeeping of indexing, feedback of shoppers, and what ranking has learned from it."""

from .feedback import Feedback, SearchLog
from .indexing import Artifact, Dashboard, IndexingAttempt, IndexingRun
from .ranking import Evidence, RankingRule

__all__ = [
    "Artifact",
    "Dashboard",
    "Evidence",
    "Feedback",
    "IndexingAttempt",
    "IndexingRun",
    "RankingRule",
    "SearchLog",
]
