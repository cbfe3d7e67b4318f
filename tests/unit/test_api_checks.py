"""Checks of the API's settings and of who may see what at its addresses."""

import pytest
from django.core import checks

from django_visual_search.checks import project as ours
from django_visual_search.checks import settings as api

from ..testshop import selectors

HINT = "Write rates such as '30/min', or None for no limit, for any of: similar, photo, feedback."


class TestLimits:
    @pytest.mark.parametrize(
        "rates", [{}, {"photo": "1/s"}, {"similar": None, "feedback": "1000/day"}, {"photo": "9/h"}]
    )
    def test_sound(self, settings, rates):
        settings.VISUAL_SEARCH = {"THROTTLE_RATES": rates, "PHOTO_SEARCHES_AT_ONCE": 1}
        assert api.check_limits() == []

    @pytest.mark.parametrize(
        "rates",
        [
            {"foto": "1/s"},
            {"photo": "1"},
            {"photo": "0/s"},
            {"photo": 5},
            {"photo": "5/year"},
            ["photo"],
            "5/s",
            {1: None},
        ],
    )
    def test_rates(self, settings, rates):
        settings.VISUAL_SEARCH = {"THROTTLE_RATES": rates}
        message = f"VISUAL_SEARCH['THROTTLE_RATES'] is {rates!r}."
        assert api.check_limits() == [checks.Error(message, hint=HINT, id="visual_search.E019")]
        assert checks.Error(message, hint=HINT, id="visual_search.E019") in ours.check_project()

    @pytest.mark.parametrize(("key", "default"), [("PHOTO_SEARCHES_AT_ONCE", 1), ("PAGE_DEPTH", 100)])
    @pytest.mark.parametrize("value", [0, -1, True, "2", None, 1.5])
    def test_numbers(self, settings, key, default, value):
        settings.VISUAL_SEARCH = {key: value}
        hint = f"Write a whole number of at least 1; the default is {default}."
        message = f"VISUAL_SEARCH[{key!r}] is {value!r}."
        assert api.check_limits() == [checks.Error(message, hint=hint, id="visual_search.E020")]


class TestIncludedUrls:
    def test_every_model_is_named(self):
        assert api.check_included_urls() == []

    def test_one_is_not(self, settings):
        visible = dict(settings.VISUAL_SEARCH["VISIBLE"])
        del visible["testshop.Shoe"]
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        assert api.check_included_urls() == [
            checks.Warning(
                "Everybody may see every testshop.Shoe at the addresses of django_visual_search.urls.",
                hint=(
                    "Set VISUAL_SEARCH['VISIBLE']['testshop.Shoe'] to the dotted path of a function that takes the "
                    "request and returns a queryset of the products that it may see."
                ),
                id="visual_search.W008",
            )
        ]

    def test_a_parent_is_enough(self, settings):
        visible = {**settings.VISUAL_SEARCH["VISIBLE"], "testshop.item": selectors.visible_shoes}
        del visible["testshop.Shoe"]
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        assert api.check_included_urls() == []

    @pytest.mark.urls("tests.testshop.models")
    def test_not_included(self, settings, monkeypatch):
        from ..testshop import models

        monkeypatch.setattr(models, "urlpatterns", [], raising=False)
        settings.VISUAL_SEARCH = {}
        assert api.check_included_urls() == []

    def test_settings_that_can_not_be_read(self, settings):
        settings.VISUAL_SEARCH = ["VISIBLE"]
        assert api.check_included_urls() == []
