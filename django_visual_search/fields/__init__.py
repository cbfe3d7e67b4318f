"""The embedding field: its declaration, its index, its checks, and the list of all fields of a project.

Entry function: ``registry.get_field``. An *embedding field* is a halfvec column that names its *source*, an ImageField,
and its *product*, the model that a search returns; a *companion* is a model whose rows have the vectors of another
model's pictures; a field's *label* is ``app.Model.field``. May import: Django and pgvector, nothing of this app.
"""

from .embedding import EmbeddingField
from .indexes import EmbeddingIndex

__all__ = ["EmbeddingField", "EmbeddingIndex"]
