"""(b) A search by photo, against a bare decode, a bare inference and a bare SQL query."""

from __future__ import annotations

import itertools

import numpy as np
from django.db import connection
from pgvector import HalfVector

from django_visual_search import search
from django_visual_search.fields.registry import get_field
from django_visual_search.spaces.extractors import extractor_of

from .pictures import FIELD, BareParts, enlarged
from .reindex import embedded_catalogue
from .report import Line, at_most, side_by_side

SQL = (
    "SELECT id, name, price, stock, image, embedding <=> %s::halfvec AS distance FROM benchmarks_photographed "
    "ORDER BY distance LIMIT 12"
)


def measure(photos: int, rounds: int = 600) -> list[Line]:
    paths = embedded_catalogue(photos)
    bare = BareParts(threads=None)
    small = [path.read_bytes() for path in paths[:: max(1, len(paths) // 40)]]
    lines = []
    for what, files, turns in (
        ("photo as in the data set", small, rounds),
        ("12 megapixel photo", [enlarged(data) for data in small[:8]], rounds // 20),
    ):
        medians = side_by_side(_sides(bare, files), turns, warm=5)
        vector, forward = (medians["decode"] + medians[name] for name in ("embed", "infer"))
        shown = f"{vector * 1e3:.2f} ms, {medians['embed'] * 1e3:.2f} of them for features, looks and projection"
        lines.append(
            Line(
                "b",
                f"photo to vector / decode and forward pass, {what}",
                **at_most(vector / forward, 1.15),
                detail=shown,
            )
        )
        parts = medians["decode"] + medians["infer"] + medians["sql"]
        shares = ", ".join(f"{name} {medians[name] * 1e3:.2f}" for name in ("decode", "infer", "sql"))
        detail = f"{medians['search'] * 1e3:.2f} ms; bare {parts * 1e3:.2f} ms ({shares}); {len(paths)} rows"
        lines.append(
            Line(
                "b", f"search_by_image / bare parts, {what}", **at_most(medians["search"] / parts, 1.25), detail=detail
            )
        )
    return lines


def _sides(bare: BareParts, files: list[bytes]):
    extractor = extractor_of(get_field(FIELD))
    vectors = [extractor(bare.decode(data)[None])[0] for data in files]
    pictures = [np.ascontiguousarray(bare.decode(data)) for data in files]
    turns = {name: itertools.cycle(range(len(files))) for name in ("search", "decode", "infer", "embed", "sql")}

    def bare_sql(vector) -> None:
        with connection.cursor() as cursor:
            cursor.execute(SQL, [HalfVector(vector).to_text()])
            cursor.fetchall()

    return {
        "search": lambda: list(search.search_by_image(files[next(turns["search"])], FIELD)),
        "decode": lambda: bare.decode(files[next(turns["decode"])]),
        "infer": lambda: bare.infer(pictures[next(turns["infer"])]),
        "embed": lambda: extractor(pictures[next(turns["embed"])][None]),
        "sql": lambda: bare_sql(vectors[next(turns["sql"])]),
    }
