"""The check of the serving head."""

import pytest
from django.utils import timezone

from django_visual_search.checks.extractors import check_serving
from django_visual_search.fields.registry import get_field
from django_visual_search.models import ServingSpace
from django_visual_search.spaces import serving

from ..heads import EXTRACTORS, LABEL, make_head


@pytest.mark.django_db
def test_a_head_that_contradicts_the_settings(settings):
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
        f"The extractor that serves {LABEL} can't be constructed: The head one was learned for the features classic-"
    )
