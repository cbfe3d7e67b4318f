"""The check of who may see what at the API's URLs."""

import pytest
from django.core import checks

from django_visual_search.checks import settings as api

from ..testshop import selectors


class TestIncludedUrls:
    def test_every_model_is_named(self):
        assert api.check_included_urls() == []

    def test_one_is_not(self, settings):
        visible = dict(settings.VISUAL_SEARCH["VISIBLE"])
        del visible["testshop.Shoe"]
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": visible}
        assert api.check_included_urls() == [
            checks.Warning(
                "Everybody may see every testshop.Shoe at the URLs of django_visual_search.urls.",
                hint=(
                    "Set VISUAL_SEARCH['VISIBLE']['testshop.Shoe'] to the dotted path of a function that takes the "
                    "request and returns a queryset of the products that the visitor may see."
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
