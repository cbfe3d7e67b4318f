"""Checks of what was learned."""

import pytest
from django.core import checks
from django.utils import timezone

from django_visual_search.checks.extractors import check_learning, check_serving
from django_visual_search.fields.registry import get_field
from django_visual_search.models import ServingSpace
from django_visual_search.spaces import serving

from ..heads import EXTRACTORS, LABEL, make_head


@pytest.mark.parametrize("value", [-1, True, "many", None, 1.5])
def test_features_of_no_number_of_pictures(settings, value):
    settings.VISUAL_SEARCH = {"FEATURE_CACHE_ROWS": value}
    assert check_learning() == [
        checks.Error(
            f"VISUAL_SEARCH['FEATURE_CACHE_ROWS'] is {value!r}.",
            hint="Write how many pictures of a field features are kept of, 0 for none; the default is 200000.",
            id="visual_search.E023",
        )
    ]


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "0.5", float("nan")])
def test_no_probability(settings, value):
    settings.VISUAL_SEARCH = {"MIN_CONFIDENCE": value}
    assert check_learning() == [
        checks.Error(
            f"VISUAL_SEARCH['MIN_CONFIDENCE'] is {value!r}.",
            hint="Write a number from 0 to 1, such as 0.5, or None to show hits of any confidence.",
            id="visual_search.E024",
        )
    ]


def test_what_is_right(settings):
    for rows, sure in ((0, None), (10, 0), (200_000, 1.0)):
        settings.VISUAL_SEARCH = {"FEATURE_CACHE_ROWS": rows, "MIN_CONFIDENCE": sure}
        assert check_learning() == []


@pytest.mark.django_db
def test_a_head_that_does_not_go_with_the_settings_any_more(settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    now, head = timezone.now(), make_head("one")
    serving.forget()
    ServingSpace.objects.create(
        label=LABEL,
        extractor="default",
        head=head,
        previous_extractor="default",
        changed_at=now,
        effective_at=now,
        finished_at=now,
    )
    assert check_serving(get_field(LABEL), "default") == []
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": EXTRACTORS["tight"]}}
    [message] = check_serving(get_field(LABEL), "default")
    assert message.id == "visual_search.W009"
    assert message.msg.startswith(
        f"What serves {LABEL} can't be made: The head one was learned for the features classic-"
    )
