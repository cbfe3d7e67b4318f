"""System checks of the project: settings, extractors, databases, broker. ``fields.checks`` has those of one field.

Entry function: ``register``, called once the apps are ready. ``checks_table`` lists the ids with what each reports; one
is silenced by ``SILENCED_SYSTEM_CHECKS = ["visual_search.W001"]``.
"""

from __future__ import annotations

from ..fields.checks import FIELD_CHECKS
from .project import register

__all__ = ["CHECKS", "checks_table", "register"]


CHECKS = {
    **FIELD_CHECKS,
    "E009": "`VISUAL_SEARCH`, or `EXTRACTORS` or `VISIBLE` in it, is not a dictionary, or a key is unknown.",
    "E010": "An extractor is not in the settings, can't be imported or refuses its options.",
    "E011": "A field's `dimensions` differ from its extractor's.",
    "E012": "A field is in a database other than PostgreSQL.",
    "E013": "`VISIBLE` names a model that is not installed.",
    "E014": "`VISIBLE` names a function that can't be imported or called, or a method that no manager has.",
    "E015": "`RANKING` is not a list of rankers.",
    "E016": "`FEEDBACK_WEIGHT`, `HALF_LIFE_DAYS` or `POSITION_BIAS` is out of range.",
    "E017": "`FEEDBACK_DAYS` or `SESSION_DAYS` is not a number of days in range.",
    "E018": "`CLIENT_ADDRESS` is not a function.",
    "E019": "`THROTTLE_RATES` has an unknown kind or a malformed rate.",
    "E020": "`PHOTO_SEARCHES_AT_ONCE` or `PAGE_DEPTH` is less than 1.",
    "E023": "`FEATURE_CACHE_ROWS` is not a number of pictures.",
    "E024": "`MIN_CONFIDENCE` is not a probability.",
    "E025": "Another setting has a wrong type or is out of range.",
    "E026": "The vectors are in another database than the tables of this app.",
    "W002": "An extractor's runtime, weights or exported model is missing on this machine.",
    "W003": "A database lacks the extension `vector`.",
    "W004": "The extension `vector` is older than 0.8.4.",
    "W005": "A declared ANN index is absent from the database or invalid.",
    "W006": "Celery's Redis transport has no socket timeout.",
    "W007": "Pillow is older than version 13.",
    "W008": "`django_visual_search.urls` is included, and `VISIBLE` leaves out a product model.",
    "W009": "The extractor or head that serves a field contradicts the settings.",
    "W010": "The project is set up for a proxy, and `CLIENT_ADDRESS` is not set.",
    "W011": "`TEXT_FIELDS` names a model or field that does not exist or has no text.",
    "W012": "A database has no text search configuration of the name in `TEXT_LANGUAGE`.",
    "W013": "A field has a text head for another space than the one that serves.",
    "W014": "`contrib.oscar` comes after Oscar or this app in `INSTALLED_APPS`, so that its templates are hidden.",
    "W016": "`contrib.wagtail` comes after `wagtail.images` in `INSTALLED_APPS`, so that its template is hidden.",
    "W017": "`contrib.wagtail` is installed, and no embedding field finds Wagtail's images.",
    "W018": "`STOREFRONT` names a model or field that does not exist.",
    "W019": "`HANDLE_CACHE` is not a cache that processes share.",
    "W020": "`THUMBNAIL` is not set: pages show the pictures as they were uploaded (with `check --deploy`).",
    "W021": "`HANDLE_CACHE` keeps fewer than 1,000 entries (with `check --deploy`).",
}


def checks_table() -> list[tuple[str, str]]:
    """Return a row for each check, errors first: id without the prefix ``visual_search.``, sentence (Markdown)."""
    return sorted(CHECKS.items())
