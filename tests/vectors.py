"""Tables full of vectors that lie in clusters, as those of real catalogues do, written straight into the database."""

from __future__ import annotations

import numpy as np
from django.db import connection

from django_visual_search.fields import EmbeddingField
from django_visual_search.indexing import ann
from django_visual_search.spaces.extractors import extractor_of


def clustered(count: int, dimensions: int, clusters: int = 200, seed: int = 0, spread: float = 0.7):
    """Unit vectors float32 ``(count, dimensions)`` around random centres, and the number of each one's centre."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimensions))
    chosen = rng.integers(0, clusters, count)
    vectors = centres[chosen] + spread * rng.standard_normal((count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), chosen


def fill(field: EmbeddingField, vectors, *, columns: dict | None = None, first: int = 1) -> None:
    """COPY rows with these vectors into the field's table, indexes last; ``columns``: name -> list of values."""
    columns = columns or {}
    quote = connection.ops.quote_name
    opts = field.model._meta
    names = [opts.pk.column, field.column, f"{field.column}_key", *columns]
    key = f"{extractor_of(field).spec.key}:"
    # Of each half that there is, once: 50,000 vectors have millions of numbers
    texts = [str(half) for half in np.arange(1 << 16, dtype=np.uint16).view(np.float16).tolist()]
    ann.drop_indexes(field)
    with connection.cursor() as cursor:
        sql = f"COPY {quote(opts.db_table)} ({', '.join(map(quote, names))}) FROM STDIN"
        with cursor.copy(sql) as copy:
            for i, vector in enumerate(np.asarray(vectors, np.float16).view(np.uint16).tolist()):
                text = f"[{','.join([texts[half] for half in vector])}]"
                copy.write_row([first + i, text, f"{key}{i}.jpg", *(values[i] for values in columns.values())])
    ann.build_indexes(field)
    ann.analyze(field)


LAST: dict = {}
"""The vectors that were last searched, and as they are stored: all queries of a test are about the same."""


def nearest_by_numpy(vectors, query, keep=None, limit: int = 20) -> list[int]:
    """Positions of the nearest rows by cosine, in half precision as they are stored; ``keep``: a boolean mask."""
    if LAST.get("vectors") is not vectors:
        stored = vectors.astype(np.float16).astype(np.float64)
        LAST.update(vectors=vectors, stored=stored / np.linalg.norm(stored, axis=1, keepdims=True))
    asked = np.asarray(query).astype(np.float16).astype(np.float64)
    scores = LAST["stored"] @ asked / np.linalg.norm(asked)
    if keep is not None:
        scores[~keep] = -np.inf
    order = np.argsort(-scores, kind="stable")[:limit]
    return [int(i) for i in order if scores[i] > -np.inf]
