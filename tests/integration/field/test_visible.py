"""Part A.3 of "In a stranger's shop": which products visitors see, named by a manager's or a queryset's method."""

import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.template import RequestContext, Template

from django_visual_search import storefront
from django_visual_search.storefront import visibility

from ...conftest import embed_all, picture_file
from ...testshop.models import Product

pytestmark = pytest.mark.django_db

SIMILAR = (
    "{% load visual_search %}{% similar_items product %}{% get_similar_items product as found %}{{ found|length }}"
)


class Catalogue(models.QuerySet):
    def browsable(self):
        return self.filter(is_published=True)


class Shelf(models.Manager.from_queryset(Catalogue)):
    def for_request(self, request):
        return self.all() if request.GET.get("staff") else self.browsable()


class PlainShelf(models.Manager):
    """A manager that has no such method; its querysets do."""

    def get_queryset(self):
        return Catalogue(self.model, using=self._db)


@pytest.fixture
def products():
    made = [Product.objects.create(name=f"p{i}", is_published=i < 3, image=picture_file(i)) for i in range(5)]
    embed_all()
    return [Product.objects.get(pk=product.pk) for product in made]


def names(results):
    return {hit.product.name for hit in results}


def configure(settings, **visible):
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "VISIBLE": {f"testshop.{name}": entry for name, entry in visible.items()},
    }


@pytest.mark.parametrize("manager", [Shelf, PlainShelf])
def test_a_method_of_the_manager_or_its_queryset(products, settings, rf, monkeypatch, manager):
    shelf = manager()
    shelf.model = Product
    monkeypatch.setitem(Product._meta.__dict__, "default_manager", shelf)
    configure(settings, Product="browsable")
    assert names(storefront.similar_items(products[0], rf.get("/"))) == {"p1", "p2"}


def test_a_method_that_takes_the_request(products, settings, rf, monkeypatch):
    shelf = Shelf()
    shelf.model = Product
    monkeypatch.setitem(Product._meta.__dict__, "default_manager", shelf)
    configure(settings, Product="for_request")
    assert names(storefront.similar_items(products[0], rf.get("/"))) == {"p1", "p2"}
    assert names(storefront.similar_items(products[0], rf.get("/?staff=1"))) == {"p1", "p2", "p3", "p4"}


def test_all(products, settings, rf):
    configure(settings, Product="all")
    assert names(storefront.similar_items(products[0], rf.get("/"))) == {"p1", "p2", "p3", "p4"}


def test_a_name_that_no_manager_has(products, settings, rf):
    configure(settings, Product="brwsable")
    with pytest.raises(ImproperlyConfigured, match=r"'brwsable': the managers of testshop\.Product have no method"):
        storefront.similar_items(products[0], rf.get("/"))


def test_without_a_word_nothing_is_shown_and_the_log_says_why(products, settings, rf, client, caplog):
    configure(settings)
    visibility._say_once.cache_clear()
    shown = Template(SIMILAR).render(RequestContext(rf.get("/"), {"product": products[0]}))
    assert shown.split() == ["0"]
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "no testshop.Product is shown, because VISUAL_SEARCH['VISIBLE'] does not say" in line.getMessage()
    assert client.get(f"/visual-search/testshop/product/{products[0].pk}/similar/").status_code == 404
    settings.DEBUG = True
    shown = Template(SIMILAR).render(RequestContext(rf.get("/"), {"product": products[0]}))
    assert shown.split()[-1] == "4"
