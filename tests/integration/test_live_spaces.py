"""The serving space of a field, and when a process learns of a switch."""

import datetime

import pytest
from django.utils import timezone

from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.fields.registry import get_field
from django_visual_search.models import EmbeddingHead, ServingSpace
from django_visual_search.spaces import heads, live
from django_visual_search.spaces.heads import serving_embedding_key
from django_visual_search.spaces.live import LiveSpaces, Space

from ..heads import EXTRACTORS, LABEL, make_head
from ..testshop.models import Product

pytestmark = pytest.mark.django_db


@pytest.fixture
def field(settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    return get_field(LABEL)


def row(head, *, begins=-60, finished=None, known=False):
    now = timezone.now()
    if not known:
        live.forget_live_spaces()  # making the head asked for it
    return ServingSpace.objects.create(
        label=LABEL,
        extractor="default",
        head=head,
        previous_extractor="tight",
        changed_at=now,
        effective_at=now + datetime.timedelta(seconds=begins),
        finished_at=finished,
    )


def test_without_a_row_the_settings_extractor_serves(field):
    assert live.live_spaces(field) == LiveSpaces(Space("default"))
    assert heads.serving_extractor_key(field) == heads.serving_extractor(field).spec.key
    assert heads.serving_extractor(field).head is None


def test_announced_then_moving_then_finished(field):
    head = make_head("one")
    new, old = Space("default", head.pk, head.key), Space("tight")
    switch = row(head, begins=60)
    assert live.live_spaces(field) == LiveSpaces(old, other=new)
    ServingSpace.objects.update(effective_at=timezone.now())
    live.forget_live_spaces()
    assert live.live_spaces(field) == LiveSpaces(new, other=old)
    assert heads.serving_extractor_key(field) == head.key == heads.serving_extractor(field).spec.key
    ServingSpace.objects.update(finished_at=timezone.now())
    live.forget_live_spaces()
    assert live.live_spaces(field) == LiveSpaces(new)
    assert live.live_spaces(field).all == (new,)
    assert str(switch) == f"{LABEL}: one"


@pytest.mark.django_db(transaction=True)
def test_is_remembered_for_a_while(field, monkeypatch, django_assert_num_queries):
    with django_assert_num_queries(1):
        live.live_spaces(field)
        live.live_spaces(field)
    row(make_head("one"), known=True)
    assert live.live_spaces(field).other is None
    monkeypatch.setattr(live.spaces_memory, "seconds", -1)
    assert live.live_spaces(field).other is not None


@pytest.mark.django_db(transaction=True)
def test_saving_a_product_sends_no_query(field, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert live.live_spaces(field, at_any_age=True) == LiveSpaces(Space("default"))
        assert serving_embedding_key(field, "a.jpg", at_any_age=True).endswith(":a.jpg")
    head = make_head("one")
    row(head)
    live.forget_live_spaces()
    live.live_spaces(field)
    heads.forget_heads()
    with django_assert_num_queries(0):
        assert serving_embedding_key(field, "a.jpg", at_any_age=True) == f"{head.key}:a.jpg"
    product = Product.objects.create(
        name="a", image="a.jpg", embedding=[1.0] * field.dimensions, embedding_key=f"{head.key}:a.jpg"
    )
    with django_assert_num_queries(1):
        product.save()


def test_a_head_is_read_once(field, django_assert_num_queries):
    row(make_head("one"))
    first = heads.serving_extractor(field)
    with django_assert_num_queries(1):  # which space; not its head
        assert heads.serving_extractor(field) is first


def test_a_damaged_head_is_not_used(field):
    head = make_head("one")
    row(head)
    EmbeddingHead.objects.update(data=bytes(head.data)[:-4] + b"\0\0\0\0")
    with pytest.raises(ExtractorUnavailable, match=r"The head one can't be used: The stored array has the sha256"):
        heads.serving_extractor(field)


def test_a_head_for_other_features_is_not_used(field, settings):
    row(make_head("one"))
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": EXTRACTORS["tight"], "tight": EXTRACTORS["default"]}}
    with pytest.raises(ExtractorUnavailable, match=r"The head one was learned for the features classic-.* switch"):
        heads.serving_extractor(get_field(LABEL))


def test_a_head_that_does_not_fit_is_refused(field):
    extractor = heads.serving_extractor(field)
    head = heads.stored_head("default", make_head("one").pk).head
    other = type(extractor)(dimensions=16)
    with pytest.raises(ValueError, match="The head gives 48 dimensions, not the field's 16"):
        other.with_head(head)
