"""A search's results, and the token that is their signed record, for import by shops."""

from .search.results import Ranking, SearchHit, SearchResults, read_token

__all__ = ["Ranking", "SearchHit", "SearchResults", "read_token"]
