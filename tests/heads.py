"""Learned heads for tests: real rows, made without training."""

from __future__ import annotations

import numpy as np

from django_visual_search.extractors.heads import LinearHead
from django_visual_search.fields.registry import get_field
from django_visual_search.learning.serialise import head_bytes, sha256_hex
from django_visual_search.models import EmbeddingHead
from django_visual_search.spaces.extractors import get_extractor
from django_visual_search.spaces.heads import key_of_space
from django_visual_search.spaces.live import live_spaces

LABEL = "testshop.Product.embedding"
CLASSIC = "django_visual_search.extractors.classic.ClassicExtractor"
EXTRACTORS = {"default": {"BACKEND": CLASSIC}, "tight": {"BACKEND": CLASSIC, "OPTIONS": {"images": {"trim": False}}}}
"""Two backbones whose features differ, and which learn nothing."""

FIGURES = {"R@1": 0.5, "R@5": 0.6, "R@10": 0.7, "MRR": 0.6, "nDCG@10": 0.6, "queries": 100, "left_out": 0}


def make_head(name, *, before=0.4, after=0.6, seed=1, label=LABEL, alias="default", **columns):
    """A head with random directions, said to have brought mAP from ``before`` to ``after``."""
    field = get_field(label)
    extractor = get_extractor(alias, field.dimensions)
    matrix = np.random.default_rng(seed).standard_normal((extractor.width, field.dimensions))
    head = LinearHead(matrix.astype(np.float32))
    data = head_bytes(head)
    figures = {"task": "unseen pictures", "held_out": 100, "train": 200, "leaked": 0}
    values = {
        "label": field.label,
        "extractor": alias,
        "features_key": extractor.features_key,
        "key": extractor.with_head(head).spec.key,
        "dimensions": field.dimensions,
        "data": data,
        "sha256": sha256_hex(data),
        "baseline_key": key_of_space(field, live_spaces(field).serving),
        "metrics": [{**figures, "before": {**FIGURES, "mAP": before}, "after": {**FIGURES, "mAP": after}}],
    }
    return EmbeddingHead.objects.create(name=name, **{**values, **columns})
