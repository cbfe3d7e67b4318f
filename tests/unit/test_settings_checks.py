"""Checks of the settings: every rule, exact messages, and hints that say what to write."""

import math
from pathlib import Path

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from django_visual_search.checks import project as ours
from django_visual_search.checks.settings import (
    check_included_urls,
    check_proxy,
    check_rankers,
    check_thumbnail,
    check_values,
)
from django_visual_search.conf import DEFAULTS, SETTINGS, settings_table
from django_visual_search.ranking import feedback, merchandise, rankers

from ..testshop import selectors

NOT_CALLABLE = 3
NO_NUMBERS = ["x", None, True, math.nan, math.inf, -math.inf, [], 1j]
NO_WHOLE_NUMBERS = [*NO_NUMBERS, 1.5, -1]

FITTING = {
    "EXTRACTORS": [{}],
    "VISIBLE": [{}, {"testshop.Product": len}],
    "THUMBNAIL": [None, len, "tests.unit.test_settings_checks.configure"],
    "STOREFRONT": [{}, {"testshop.Product": {"FACETS": ["category"], "PRICE": "price"}}, {"testshop.Product": {}}],
    "CARD": [None, len, "tests.unit.test_settings_checks.configure"],
    "QUEUE": ["pictures"],
    "BATCH_SIZE": [1, 64],
    "MAX_ATTEMPTS": [1],
    "LEASE_SECONDS": [0, 0.05, 60],
    "SWEEP_SECONDS": [0.1, 30],
    "DECODERS": [None, 1],
    "DECODE_SECONDS": [0.1],
    "DECODE_MEMORY_MB": [10],
    "PUBLISH_SECONDS": [0.4, 1],
    "MAINTENANCE_WORK_MEM": ["64MB", "1 GB", "65536", "512kB", "1.5GB", "67108864B"],
    "FEATURE_CACHE_ROWS": [0, 10, 200_000],
    "CACHE_DIR": [None, "/tmp", Path("/tmp")],
    "MAX_LIMIT": [1],
    "EXACT_ROWS": [None, 0, 10**6],
    "EF_SEARCH": [1, 1000],
    "MAX_SCAN_TUPLES": [1, 2**31 - 1],
    "MIN_CONFIDENCE": [None, 0, 1.0],
    "MAIN_OBJECT": [True, False, 1],
    "DETECTOR": [
        None,
        checks.Error,
        "django_visual_search.conf.rules.why_no_detector",
        {"MODEL": __file__, "LABELS": __file__},
    ],
    "TEXT_FIELDS": [{}, {"testshop.Product": ["name", "category__name"]}, {"testshop.Article": ("title",)}],
    "TEXT_LANGUAGE": ["simple", "english", "my_own"],
    "TEXT_WEIGHT": [0, 0.5, 2],
    "RANKING": [[], ()],
    "RANKING_DEPTH": [0, 100],
    "FEEDBACK_WEIGHT": [0, 0.99],
    "HALF_LIFE_DAYS": [0.5, 10**400],
    "POSITION_BIAS": [0, 2],
    "FEEDBACK_DAYS": [1, 3650],
    "SESSION_DAYS": [1, 366],
    "LOG_SEARCHES": [True, False, 1],
    "LOG_VECTORS": [True, False],
    "CLIENT_ADDRESS": [None, len, "tests.unit.test_settings_checks.configure"],
    "HANDLE_CACHE": ["default"],
    "HANDLE_SECONDS": [1, 1800],
    "PAGE_DEPTH": [1],
    "PHOTO_SEARCHES_AT_ONCE": [1],
    "OSCAR_RETURN_STATUSES": [[], ["Returned"], ("Returned", "Refunded")],
    "THROTTLE_RATES": [{}, {"photo": "1/s"}, {"similar": None, "feedback": "1000/day"}, {"photo": "9/h"}],
}

BROKEN = {
    "THUMBNAIL": [3],
    "STOREFRONT": [
        None,
        {"testshop.Product": ["category"]},
        {"testshop.Product": {"FACETS": "category"}},
        {"testshop.Product": {"FACETS": [3]}},
        {"testshop.Product": {"price": "price"}},
        {3: {}},
    ],
    "CARD": [3, "nowhere.card"],
    "QUEUE": ["", None, 3],
    "BATCH_SIZE": [*NO_WHOLE_NUMBERS, 0],
    "MAX_ATTEMPTS": [*NO_WHOLE_NUMBERS, 0],
    "LEASE_SECONDS": [*NO_NUMBERS, -1],
    "SWEEP_SECONDS": [*NO_NUMBERS, 0],
    "DECODERS": ["x", True, 0],
    "DECODE_SECONDS": [*NO_NUMBERS, 0],
    "DECODE_MEMORY_MB": [*NO_WHOLE_NUMBERS, 0],
    "PUBLISH_SECONDS": [*NO_NUMBERS, 0],
    "MAINTENANCE_WORK_MEM": [512, "", "much", "512 megabytes", "-1MB", "512mb"],
    "FEATURE_CACHE_ROWS": NO_WHOLE_NUMBERS,
    "CACHE_DIR": [3],
    "MAX_LIMIT": [*NO_WHOLE_NUMBERS, 0],
    "EXACT_ROWS": ["x", -1, True],
    "EF_SEARCH": [*NO_WHOLE_NUMBERS, 0, 1001],
    "MAX_SCAN_TUPLES": [*NO_WHOLE_NUMBERS, 0, 2**31],
    "MAIN_OBJECT": [2, "True", None],
    "DETECTOR": [3, "nowhere.detector", {}, {"MODEL": __file__}, {"MODEL": "/nowhere", "LABELS": __file__}],
    "MIN_CONFIDENCE": [-0.1, 1.1, True, "0.5", math.nan],
    "TEXT_FIELDS": [
        ["name"],
        {"testshop.Product": "name"},
        {"testshop.Product": []},
        {"a.B": [3]},
        {3: ["name"]},
        None,
    ],
    "TEXT_LANGUAGE": ["", None, 3, "pg catalog", "x'; --"],
    "TEXT_WEIGHT": [*NO_NUMBERS, -0.1, "0.5"],
    "RANKING": ["django_visual_search.ranking.feedback", None, {}],
    "RANKING_DEPTH": NO_WHOLE_NUMBERS,
    "FEEDBACK_WEIGHT": [*NO_NUMBERS, 1, -0.1, "0.5"],
    "HALF_LIFE_DAYS": [*NO_NUMBERS, 0],
    "POSITION_BIAS": [*NO_NUMBERS, -1],
    "FEEDBACK_DAYS": [*NO_WHOLE_NUMBERS, 0],
    "SESSION_DAYS": [*NO_WHOLE_NUMBERS, 0, 367],
    "LOG_SEARCHES": [2, "False", None],
    "LOG_VECTORS": [-1, "True", None],
    "CLIENT_ADDRESS": [1, "nowhere.address"],
    "HANDLE_CACHE": ["", None, 3],
    "HANDLE_SECONDS": [*NO_WHOLE_NUMBERS, 0],
    "PAGE_DEPTH": [*NO_WHOLE_NUMBERS, 0],
    "PHOTO_SEARCHES_AT_ONCE": [*NO_WHOLE_NUMBERS, 0],
    "OSCAR_RETURN_STATUSES": ["Returned", [1], None],
    "THROTTLE_RATES": [
        {"foto": "1/s"},
        {"photo": "1"},
        {"photo": "0/s"},
        {"photo": 5},
        {"photo": "5/year"},
        ["photo"],
        "5/s",
        {1: None},
    ],
}


def configure(settings, **values):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **values}


def error(check, message, hint):
    return checks.Error(message, hint=hint, id=f"visual_search.{check}")


def test_every_setting_has_cases():
    assert set(FITTING) == set(SETTINGS)
    assert set(BROKEN) == set(SETTINGS) - {"EXTRACTORS", "VISIBLE"}  # those are among the checks of the keys


@pytest.mark.parametrize("name", SETTINGS)
def test_defaults_fit(name):
    assert SETTINGS[name].rule.fault(DEFAULTS[name]) is None


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FITTING.items() for value in values])
def test_fitting(settings, name, value):
    configure(settings, **{name: value})
    assert check_values() == []


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BROKEN.items() for value in values])
def test_broken(settings, name, value):
    configure(settings, **{name: value})
    (message,) = check_values()
    assert message.msg.startswith(f"VISUAL_SEARCH[{name!r}] is {value!r}")
    assert message.hint.startswith(f"Write {SETTINGS[name].rule.words}")
    assert message.hint.endswith(SETTINGS[name].sentence)
    assert message.id == f"visual_search.{SETTINGS[name].check}"
    assert message in ours.check_project()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "BATCH_SIZE",
            "x",
            error(
                "E025",
                "VISUAL_SEARCH['BATCH_SIZE'] is 'x'.",
                "Write a whole number of at least 1; the default is 64. Pictures embedded in one batch.",
            ),
        ),
        (
            "SESSION_DAYS",
            367,
            error(
                "E017",
                "VISUAL_SEARCH['SESSION_DAYS'] is 367.",
                "Write a whole number from 1 to 366; the default is 1. Days after which a visitor's pseudonym changes.",
            ),
        ),
        (
            "FEEDBACK_WEIGHT",
            1,
            error(
                "E016",
                "VISUAL_SEARCH['FEEDBACK_WEIGHT'] is 1.",
                "Write a number of at least 0 and below 1; the default is 0.5. "
                "How far feedback moves a hit: its distance is multiplied by 1 - w to 1 + w.",
            ),
        ),
        (
            "RANKING",
            None,
            error(
                "E015",
                "VISUAL_SEARCH['RANKING'] is None: it is a NoneType, not a list.",
                'Write a list of dotted paths of functions, such as ["django_visual_search.ranking.feedback"], or [] '
                "for none. Rankers, in the order in which they run.",
            ),
        ),
        (
            "THROTTLE_RATES",
            {"foto": "1/s"},
            error(
                "E019",
                "VISUAL_SEARCH['THROTTLE_RATES'] is {'foto': '1/s'}.",
                "Write rates such as '30/min', or None for no limit, for any of: similar, photo, text, feedback. "
                "Requests per visitor, by kind; a kind left out keeps its default.",
            ),
        ),
        (
            "MIN_CONFIDENCE",
            1.1,
            error(
                "E024",
                "VISUAL_SEARCH['MIN_CONFIDENCE'] is 1.1.",
                "Write a number from 0 to 1, or None. Least confidence of the hits on photo search pages, once "
                "confidence was learned; `None` shows all hits.",
            ),
        ),
    ],
)
def test_messages(settings, name, value, expected):
    configure(settings, **{name: value})
    assert check_values() == [expected]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("shop.nothing.here", "ModuleNotFoundError: No module named 'shop'"),
        ("tests.unit.test_settings_checks.NOT_CALLABLE", "it is not callable"),
        (1, "it is neither a dotted path nor a callable"),
    ],
)
def test_functions(settings, function, why):
    configure(settings, CLIENT_ADDRESS=function)
    hint = (
        "Write a function or its dotted path, or None. Function that takes the request and returns the visitor's IP "
        "address; `None` takes `REMOTE_ADDR`."
    )
    assert check_values() == [error("E018", f"VISUAL_SEARCH['CLIENT_ADDRESS'] is {function!r}: {why}.", hint)]


def test_no_setting_at_all(settings):
    del settings.VISUAL_SEARCH
    assert check_values() == []


def test_the_table():
    rows = settings_table()
    assert [name for name, _, _ in rows] == list(DEFAULTS)
    assert ("QUEUE", "'visual_search'", "Celery queue of this app's tasks.") in rows
    assert all(sentence[0].isupper() or sentence[0] == "`" for _, _, sentence in rows)
    assert all(sentence.endswith(".") for _, _, sentence in rows)


class TestProxy:
    def test_no_proxy(self):
        assert check_proxy() == []

    @pytest.mark.parametrize(
        ("name", "value"),
        [("USE_X_FORWARDED_HOST", True), ("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"))],
    )
    def test_a_proxy(self, settings, name, value):
        setattr(settings, name, value)
        hint = (
            "Set VISUAL_SEARCH['CLIENT_ADDRESS'] to the dotted path of a function that takes the request and returns "
            "the visitor's IP address from the header that your proxy sets. Feedback and throttles count visitors by "
            "it."
        )
        message = f"All visitors look like one: {name} says that a proxy is in front, whose address REMOTE_ADDR is."
        expected = checks.Warning(message, hint=hint, id="visual_search.W010")
        assert check_proxy() == [expected]
        assert expected in ours.check_project()
        configure(settings, CLIENT_ADDRESS=configure)
        assert check_proxy() == []


RANKING_HINT = f"Write {SETTINGS['RANKING'].rule.words}."
RANKERS = "django_visual_search.ranking"


def greedy(candidates, context):
    return candidates


greedy.needs = {"everything"}


def own(candidates, context):
    return candidates


def test_default_rankers(settings):
    assert check_rankers() == []
    settings.VISUAL_SEARCH = {}
    assert check_rankers() == []
    assert rankers.rankers_for(None) == (feedback, merchandise)


@pytest.mark.parametrize("ranking", [[], (), [own], [f"{__name__}.own", f"{RANKERS}.diversity"], ["feedback"]])
def test_sound_rankers(settings, ranking):
    configure(settings, RANKING=ranking)
    assert check_rankers() == []
    assert len(rankers.rankers_for(None)) == len(ranking)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (f"{RANKERS}.popularity", f"There is no ranker '{RANKERS}.popularity': "),
        ("popularity", f"There is no ranker '{RANKERS}.popularity': "),
        ("nowhere.at_all", "There is no ranker 'nowhere.at_all': No module named 'nowhere'"),
        (f"{__name__}.RANKING_HINT", f"'{__name__}.RANKING_HINT' is not a ranker: a function whose 'needs' are of "),
        (f"{__name__}.greedy", f"'{__name__}.greedy' is not a ranker: a function whose 'needs' are of "),
        (greedy, f"{greedy!r} is not a ranker: a function whose 'needs' are of ['evidence', 'rules', 'vectors']."),
        (7, "it is neither a dotted path nor a function."),
        ({}, "it is neither a dotted path nor a function."),
    ],
)
def test_faulty_rankers(settings, name, problem):
    configure(settings, RANKING=[f"{RANKERS}.feedback", name])
    (message,) = check_rankers()
    assert message.msg.startswith(f"VISUAL_SEARCH['RANKING'] has {name!r}: {problem}")
    assert (message.id, message.hint) == ("visual_search.E015", RANKING_HINT)
    if not isinstance(name, int | dict):
        with pytest.raises(ImproperlyConfigured):
            rankers.rankers_for(None)


def test_rankers_are_checked_with_the_project(settings):
    configure(settings, RANKING=["nowhere.at_all"], FEEDBACK_WEIGHT=2)
    ids = [message.id for message in ours.check_project()]
    assert {"visual_search.E015", "visual_search.E016"} <= set(ids)


class TestThumbnail:
    def test_originals_are_served(self, settings):
        [warning] = check_thumbnail()
        assert warning.id == "visual_search.W020"
        assert "'django_visual_search.contrib.thumbnails.imagekit'" in warning.hint
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "THUMBNAIL": "django_visual_search.contrib.thumbnails.sorl"}
        assert check_thumbnail() == []


class TestIncludedUrls:
    def test_every_product_model_is_named(self):
        assert check_included_urls() == []

    def test_one_product_model_is_not(self, settings):
        visible = dict(settings.VISUAL_SEARCH["VISIBLE"])
        del visible["testshop.Shoe"]
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        assert check_included_urls() == [
            checks.Warning(
                "With DEBUG off, no testshop.Shoe is shown: nobody has said which ones visitors may see.",
                hint=(
                    "Set VISUAL_SEARCH['VISIBLE']['testshop.Shoe'] to the dotted path of a function that takes the "
                    "request and returns a queryset of the products that the visitor may see, or to the name of a "
                    "method of the model's manager, such as 'all'."
                ),
                id="visual_search.W008",
            )
        ]

    def test_naming_a_parent_is_enough(self, settings):
        visible = {**settings.VISUAL_SEARCH["VISIBLE"], "testshop.item": selectors.visible_shoes}
        del visible["testshop.Shoe"]
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        assert check_included_urls() == []

    @pytest.mark.urls("tests.testshop.models")
    def test_urls_that_are_not_included(self, settings, monkeypatch):
        from ..testshop import models

        monkeypatch.setattr(models, "urlpatterns", [], raising=False)
        settings.VISUAL_SEARCH = {}
        assert check_included_urls() == []

    def test_settings_that_are_no_dictionary(self, settings):
        settings.VISUAL_SEARCH = ["VISIBLE"]
        assert check_included_urls() == []
