"""Learned heads in the admin are read-only."""

import pytest
from django.urls import reverse

from ..heads import EXTRACTORS, make_head
from ..staff import staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def head(settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    return make_head("<b>one</b>", summary={"given": ["12 pictures"], "notes": ["<i>a note</i>"]})


def test_list_and_page(client, head):
    client.force_login(staff())
    listed = client.get(reverse("admin:django_visual_search_embeddinghead_changelist")).content.decode()
    assert "0.40 → 0.60" in listed
    assert "&lt;b&gt;one&lt;/b&gt;" in listed
    page = client.get(reverse("admin:django_visual_search_embeddinghead_change", args=[head.pk])).content.decode()
    for text in (
        "unseen pictures, before",
        "0.400",
        "0.600",
        "12 pictures",
        "&lt;i&gt;a note",
        head.key,
        "candidate",
    ):
        assert text in page
    assert 'name="_save"' not in page


def test_a_head_that_was_never_measured(client, head):
    head.metrics = []
    head.save()
    client.force_login(staff())
    page = client.get(reverse("admin:django_visual_search_embeddinghead_change", args=[head.pk])).content.decode()
    assert "No pictures could be held out." in page


def test_read_only(client, head):
    client.force_login(staff())
    assert client.get(reverse("admin:django_visual_search_embeddinghead_add")).status_code == 403
    address = reverse("admin:django_visual_search_embeddinghead_delete", args=[head.pk])
    assert client.post(address, {"post": "yes"}).status_code == 403
