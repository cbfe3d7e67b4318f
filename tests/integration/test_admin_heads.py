"""Learned heads in the admin: read-only, compared on the shop's own pictures, switched to and rolled back by button."""

import time

import pytest
from django.urls import reverse

from django_visual_search.fields.registry import get_field
from django_visual_search.models import EmbeddingHead, ServingSpace
from django_visual_search.spaces.live import forget_live_spaces, live_spaces
from django_visual_search.training import switching

from ..conftest import embed_all, picture_file
from ..heads import EXTRACTORS, LABEL, make_head
from ..staff import staff
from ..testshop.models import Product
from .test_admin_list import eager, shown_messages  # noqa: F401

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
        "unseen pictures · before",
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


def address(name, *arguments):
    return reverse(f"admin:django_visual_search_embeddinghead_{name}", args=arguments)


DASHBOARD = "/admin/django_visual_search/dashboard/"


@pytest.fixture
def products(head):
    made = [Product.objects.create(name=f"Product {n}", image=picture_file(n)) for n in range(9)]
    embed_all()
    return made


class TestSideBySide:
    def test_what_products_find_now_and_with_the_head(self, client, head, products):
        client.force_login(staff())
        response = client.get(address("change", head.pk))
        compared = response.context["compared"]
        assert response.context["pictures"] == 9
        assert len(compared) == 6
        assert all(len(row["before"]) == len(row["after"]) == 6 for row in compared)
        page = response.content.decode()
        assert "visual-search-moved" in page, "a head of random directions finds others"
        assert "Switch to this head" in page
        assert f'href="/admin/testshop/product/{products[0].pk}/change/"' in page

    def test_products_that_the_user_may_not_see(self, client, head, products):
        client.force_login(staff("django_visual_search.view_embeddinghead"))
        response = client.get(address("change", head.pk))
        assert response.context["compared"] == []
        assert "Switch to this head" not in response.content.decode()

    def test_a_head_that_no_longer_fits(self, client, head, products):
        EmbeddingHead.objects.filter(pk=head.pk).update(features_key="other", key="other")
        client.force_login(staff())
        assert "was learned for the features" in client.get(address("change", head.pk)).content.decode()


class TestSwitch:
    @pytest.fixture(autouse=True)
    def _no_waiting(self, monkeypatch, eager):  # noqa: F811
        monkeypatch.setattr(switching, "SWITCH_GRACE", 0)

    def test_permission_and_confirmation(self, client, head, products):
        client.force_login(staff("django_visual_search.view_embeddinghead"))
        for url in (address("switch", head.pk), address("roll_back", LABEL)):
            assert client.get(url).status_code == client.post(url).status_code == 403
        client.force_login(staff())
        assert client.get(address("switch", head.pk)).status_code == 200
        assert client.get(address("switch", 999)).status_code == 404
        assert client.get(address("roll_back", "no.such.field")).status_code == 404
        assert not ServingSpace.objects.exists()

    def test_the_rule_of_switch_embedding(self, client, head, products):
        worse = make_head("worse", before=0.6, after=0.4, seed=2)
        client.force_login(staff())
        page = client.get(DASHBOARD).content.decode()
        assert "a better head waits, &lt;b&gt;one&lt;/b&gt;" in page
        response = client.post(address("switch", worse.pk))
        assert "is worse on held-out pictures" in response.content.decode()
        assert "Switch all the same" in response.content.decode()
        assert not ServingSpace.objects.exists()
        head.delete()
        assert "better head" not in client.get(DASHBOARD).content.decode()

    @pytest.mark.django_db(transaction=True)
    def test_to_a_head_and_back_without_celery(self, client, head, products):
        client.force_login(staff())
        before = live_spaces(get_field(LABEL)).serving
        response = client.post(address("switch", head.pk))
        assert response.url == address("switching", LABEL)
        page = self.until_moved(client)
        assert "<strong>Products</strong>" in page
        assert {key.partition(":")[0] for key in Product.objects.values_list("embedding_key", flat=True)} == {head.key}
        assert "All vectors have moved" in page
        assert client.get(address("roll_back", LABEL)).status_code == 200
        client.post(address("roll_back", LABEL))
        self.until_moved(client)
        forget_live_spaces()
        assert live_spaces(get_field(LABEL)).serving == before
        assert head.key not in {
            key.partition(":")[0] for key in Product.objects.values_list("embedding_key", flat=True)
        }

    def until_moved(self, client):
        end = time.monotonic() + 30
        while True:
            response = client.get(address("switching", LABEL))
            if not response.context["serves"].is_switching:
                return response.content.decode()
            assert response.context["reload_seconds"]
            assert time.monotonic() < end
            time.sleep(0.05)

    def test_another_switch_meanwhile(self, client, head, products):
        other = make_head("other", seed=3)
        field = get_field(LABEL)
        switching.announce(field, switching.space_named(field, "other"))
        client.force_login(staff())
        response = client.post(address("switch", head.pk), {"force": "on"})
        assert "is being switched to other" in str(shown_messages(response))
        assert "9 pictures are left" in client.get(address("switching", LABEL)).content.decode()
        assert ServingSpace.objects.get().head == other

    def test_nothing_to_go_back_to(self, client, head):
        client.force_login(staff())
        assert "never switched" in client.get(address("roll_back", LABEL)).content.decode()
        assert "never switched" in str(shown_messages(client.post(address("roll_back", LABEL))))
