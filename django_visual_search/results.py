"""The public place of a search's results and of the token that signs them."""

from .search.results import Ranking, SearchHit, SearchResults, read_token

__all__ = ["Ranking", "SearchHit", "SearchResults", "read_token"]
