"""Each setting, declared once: default, rule and sentence; the checks and the table of the documentation read them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .rules import (
    FUNCTION,
    LONGEST_PERIOD,
    POSITIVE,
    RATES,
    SWITCH,
    SettingRule,
    are_names,
    are_rates,
    are_storefronts,
    are_text_fields,
    instance_of,
    number,
    or_none,
    rule_where,
    text,
    whole_number,
    why_no_detector,
)


@dataclass(frozen=True)
class Setting:
    default: Any
    rule: SettingRule
    sentence: str
    """The setting's effect, for the documentation and the hints of checks; Markdown."""
    check: str = "E025"
    """Id of the system check that reports a value against the rule."""


SETTINGS: dict[str, Setting] = {
    "EXTRACTORS": Setting(
        {"default": {"BACKEND": "django_visual_search.extractors.lite.EfficientNetLiteExtractor"}},
        instance_of("{'default': {'BACKEND': 'path.to.Extractor', 'OPTIONS': {...}}}", "dictionary", dict),
        "Extractors by alias: the dotted path of a class, and the arguments it is constructed with.",
        check="E009",
    ),
    "VISIBLE": Setting(
        {},
        instance_of("{'app.Model': 'path.to.function'}", "dictionary", dict),
        "For each product model, which products a visitor may see: a function that takes the request and returns a "
        "queryset, its dotted path, or the name of a method of the model's manager or queryset (`'published'`; `'all'` "
        "if all are public). With `DEBUG` off, products of a model without an entry are not shown.",
        check="E009",
    ),
    "THUMBNAIL": Setting(
        None,
        or_none(FUNCTION),
        "Function that takes a picture and a size in pixels and returns the URL of a small version, such as "
        "`'django_visual_search.contrib.thumbnails.imagekit'`; `None` shows the picture itself.",
    ),
    "CARD": Setting(
        None,
        or_none(FUNCTION),
        "Function that takes a product and the request and returns what its card says: a dictionary of `price`, "
        "`sold_out` and `same`, of which any may be left out; `None` reads the product's own `price`, `is_sold_out` "
        "and the like.",
    ),
    "QUEUE": Setting("visual_search", text("the name of a queue"), "Celery queue of this app's tasks."),
    # Indexing
    "BATCH_SIZE": Setting(64, whole_number(1), "Pictures embedded in one batch."),
    "MAX_ATTEMPTS": Setting(3, whole_number(1), "Attempts at a picture before it is quarantined."),
    "LEASE_SECONDS": Setting(
        60, number("of at least 0", lambda value: value >= 0), "How long a worker's claim on a picture holds unrenewed."
    ),
    "SWEEP_SECONDS": Setting(30, POSITIVE, "Interval of the sweep; write the same into Celery's beat schedule."),
    "DECODERS": Setting(
        None, or_none(whole_number(1)), "Processes that decode pictures; `None` starts one per core, four at most."
    ),
    "DECODE_SECONDS": Setting(
        2,
        POSITIVE,
        "Longest that a photo search may decode. Three quarters of it is the processor time that any picture may take; "
        "one of the catalogue may wait ten times as long for a processor.",
    ),
    "DECODE_MEMORY_MB": Setting(
        300,
        whole_number(1),
        "Memory (address space) that a process may take to decode pictures. An extractor with a larger `max_memory` "
        "needs 100 MB more than that.",
    ),
    "PUBLISH_SECONDS": Setting(0.4, POSITIVE, "Longest that a save waits for the broker, per attempt."),
    "MAINTENANCE_WORK_MEM": Setting(
        "512MB",
        text("a size as PostgreSQL reads it, such as '512MB'", r"\s*\d+(\.\d+)?\s*(B|kB|MB|GB|TB)?\s*"),
        "PostgreSQL's memory for building an HNSW index.",
    ),
    "FEATURE_CACHE_ROWS": Setting(
        200_000,
        whole_number(0),
        "Pictures per field whose backbone features are kept for training other heads (5 kB each with the "
        "default extractor); `0` keeps none.",
        check="E023",
    ),
    "CACHE_DIR": Setting(
        None,
        or_none(instance_of("the path of a folder", "path", str, os.PathLike)),
        "Folder for copies of exported models on this machine; `None` takes a folder in the user's cache directory.",
    ),
    # Search
    "MAX_LIMIT": Setting(1000, whole_number(1), "Largest `limit` of a search."),
    # Its number is that of search.planning.MOST_EXACT_ROWS, which this module can't import; a test compares them.
    "EXACT_ROWS": Setting(
        None,
        or_none(whole_number(0)),
        "Rows up to which a search compares every vector, and is exact; `None`: while that takes no longer than the "
        "index, 5,000 at most.",
    ),
    "EF_SEARCH": Setting(100, whole_number(1, 1000), "Least `hnsw.ef_search` of pgvector."),
    "MAX_SCAN_TUPLES": Setting(20_000, whole_number(1, 2**31 - 1), "`hnsw.max_scan_tuples` of pgvector."),
    "MIN_CONFIDENCE": Setting(
        None,
        or_none(number("from 0 to 1", lambda value: 0 <= value <= 1)),
        "Least confidence of the hits on photo search pages, once confidence was learned; `None` shows all hits.",
        check="E024",
    ),
    "DETECTOR": Setting(
        None,
        or_none(
            SettingRule(
                "a function or its dotted path, or {'MODEL': 'detect.tflite', 'LABELS': 'labels.txt'}", why_no_detector
            )
        ),
        "Detector of the objects in a photo: a function that takes a picture and returns boxes, or the files of a "
        "LiteRT detection model; `None` takes them from where an image network sees something.",
    ),
    # Text
    "TEXT_FIELDS": Setting(
        {},
        rule_where("{'app.Model': ['name', 'description', 'category__name']}", are_text_fields),
        "For each product model, the fields that searches by text read and text heads learn from, the name first.",
    ),
    "TEXT_LANGUAGE": Setting(
        "simple",
        text("the name of a text search configuration of PostgreSQL, such as 'english'", r"\w+"),
        "PostgreSQL's text search configuration; `simple` takes every word as it is written.",
    ),
    "TEXT_WEIGHT": Setting(
        0.5,
        number("of at least 0", lambda value: value >= 0),
        "How far the words beside a photo or a product move the query; at 1, both weigh alike.",
    ),
    "MAIN_OBJECT": Setting(
        False,
        SWITCH,
        "Whether a photo search looks at the photo's main object too: for photos of one product in a room; takes about "
        "three times as long.",
    ),
    # Ranking
    "RANKING": Setting(
        ["django_visual_search.ranking.feedback", "django_visual_search.ranking.merchandise"],
        instance_of(
            'a list of dotted paths of functions, such as ["django_visual_search.ranking.feedback"], or [] for none',
            "list",
            list,
            tuple,
        ),
        "Rankers, in the order in which they run.",
        check="E015",
    ),
    "RANKING_DEPTH": Setting(100, whole_number(0), "Visual neighbours that rankers choose from."),
    "FEEDBACK_WEIGHT": Setting(
        0.5,
        number("of at least 0 and below 1", lambda value: 0 <= value < 1),
        "How far feedback moves a hit: its distance is multiplied by 1 - w to 1 + w.",
        check="E016",
    ),
    "HALF_LIFE_DAYS": Setting(30, POSITIVE, "Days after which feedback counts half.", check="E016"),
    "POSITION_BIAS": Setting(
        1.0,
        number("of at least 0", lambda value: value >= 0),
        "The chance that a visitor looks at rank r is r to the power of minus this.",
        check="E016",
    ),
    # Feedback
    "FEEDBACK_DAYS": Setting(
        180,
        whole_number(1),
        "Days that events and logged searches are kept, and evidence to which nothing was added since.",
        check="E017",
    ),
    "SESSION_DAYS": Setting(
        1, whole_number(1, LONGEST_PERIOD), "Days after which a visitor's pseudonym changes.", check="E017"
    ),
    "LOG_SEARCHES": Setting(True, SWITCH, "Whether searches by visitors and staff are logged."),
    "LOG_VECTORS": Setting(False, SWITCH, "Whether the log keeps the query's vector."),
    "CLIENT_ADDRESS": Setting(
        None,
        or_none(FUNCTION),
        "Function that takes the request and returns the visitor's IP address; `None` takes `REMOTE_ADDR`.",
        check="E018",
    ),
    "OSCAR_RETURN_STATUSES": Setting(
        ["Returned"],
        rule_where("a list of names, such as ['Returned']", are_names),
        "With `contrib.oscar`: statuses of an order or a line that mean that it came back; capitals don't matter.",
    ),
    # API
    "PAGE_DEPTH": Setting(100, whole_number(1), "Hits that the pages of one search reach.", check="E020"),
    "HANDLE_CACHE": Setting(
        "default",
        text("the alias of a cache in CACHES, such as 'default'"),
        "Cache that keeps the vectors of photos for further searches without a new upload; processes must share it.",
    ),
    "HANDLE_SECONDS": Setting(
        1800, whole_number(1), "How long a photo's vectors are kept for further searches without a new upload."
    ),
    "STOREFRONT": Setting(
        {},
        rule_where(
            "{'app.Model': {'FACETS': ['category', 'brand'], 'PRICE': 'price', 'NEWEST': 'created'}}, or some of these",
            are_storefronts,
        ),
        "For each product model, the facets and orders of photo search pages: `FACETS`, fields by whose values hits "
        "are counted and filtered (`brand__country` leads over relations), and the fields to sort by, "
        "`PRICE` and `NEWEST`.",
    ),
    "PHOTO_SEARCHES_AT_ONCE": Setting(
        1,
        whole_number(1),
        "Photo searches that one process runs at the same time, and as many more whose photos take long to decode.",
        check="E020",
    ),
    "THROTTLE_RATES": Setting(
        RATES,
        rule_where(f"rates such as '30/min', or None for no limit, for any of: {', '.join(RATES)}", are_rates),
        "Requests per visitor, by kind; a kind left out keeps its default.",
        check="E019",
    ),
}

DEFAULTS: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}


def settings_table() -> list[tuple[str, str, str]]:
    """Return a row for each setting: name, default as Python code, sentence."""
    return [(name, repr(setting.default), setting.sentence) for name, setting in SETTINGS.items()]
