"""The panel on a product's page: its nearest neighbours as staff may see them, in any arrangement of fields."""

import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.contenttypes.models import ContentType

from django_visual_search.models import RankingRule

from ..conftest import embed_all, picture_file
from ..staff import staff
from ..testshop.admin import ProductAdmin
from ..testshop.models import Article, ArticleImage, Product
from .test_admin_status import PICTURES

pytestmark = pytest.mark.django_db

PANEL = "visual_search_neighbours"


@pytest.fixture
def products():
    made = [Product.objects.create(name=f"Product {n}", image=picture_file(n)) for n in range(5)]
    embed_all()
    return made


def page_of(client, product, model="product"):
    response = client.get(f"/admin/testshop/{model}/{product.pk}/change/")
    assert response.status_code == 200
    return response.content.decode()


def link(product):
    return f'<a href="/admin/testshop/product/{product.pk}/change/">'


def test_neighbours_with_similarities_and_reasons(client, products):
    RankingRule.objects.create(
        kind="pin", slot=1, object_id=products[4].pk, content_type=ContentType.objects.get_for_model(Product)
    )
    client.force_login(staff())
    page = page_of(client, products[0])
    panel = page[page.index('class="visual-search-panel"') :]
    assert panel.count("<li>") == 4
    assert f"/admin/testshop/product/{products[0].pk}/change/" not in panel.split("</ol>")[0], "never itself"
    assert panel.index(link(products[4])) == min(panel.index(link(product)) for product in products[1:])
    assert panel.count("<em>pinned</em>") == 1
    assert panel.count(products[4].image.url) == 1
    assert f"visual-search/?product={products[0].pk}" in panel
    assert "visual-search-current" in panel


def test_a_product_without_a_vector(client):
    product = Product.objects.create(name="A", image=picture_file(1))
    client.force_login(staff())
    page = page_of(client, product)
    assert "It has no vector yet" in page
    assert "It waits to be embedded." in page
    assert "visual-search-missing" in page


def test_the_only_product_with_a_vector(client):
    product = Product.objects.create(name="A", image=picture_file(1))
    embed_all()
    client.force_login(staff())
    page = page_of(client, product)
    assert "no other picture has a vector" in page
    assert "visual-search-current" in page


@pytest.mark.django_db(transaction=True)  # elsewhere, nothing is remembered
def test_queries(client, products, django_assert_max_num_queries):
    client.force_login(staff())
    page_of(client, products[0])
    # Session, user, product, status, three for the search, and the page's own
    with django_assert_max_num_queries(10):
        page_of(client, products[0])


def test_adding_a_product_shows_no_panel(client):
    client.force_login(staff())
    page = client.get("/admin/testshop/product/add/").content.decode()
    assert PANEL not in page
    assert client.get("/admin/testshop/publishedproduct/add/").status_code == 200


def test_view_permission(client, products):
    client.force_login(staff("testshop.view_product"))
    assert page_of(client, products[0]).count("<li>") >= 4


def test_only_products_that_staff_may_see(client, products):
    """PublishedProduct's manager excludes unpublished products, and so does its admin."""
    Product.objects.filter(pk=products[1].pk).update(is_published=False)
    client.force_login(staff())
    page = page_of(client, products[0], "publishedproduct")
    assert link(products[1]).replace("product/", "publishedproduct/", 1) not in page
    assert page.count("/change/") == 3
    assert link(products[1]) in page_of(client, products[0])


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({}, "last"),
        ({"fields": ["name", "price"]}, "last"),
        ({"fields": [("name", "price"), PANEL]}, "first"),
        ({"fieldsets": [(None, {"fields": ["name"]}), ("Rest", {"fields": ["price"]})]}, "last"),
        ({"fieldsets": [("Looks", {"fields": [("name", PANEL)]}), ("Rest", {"fields": ["price"]})]}, "first"),
        ({"readonly_fields": ["price"]}, "last"),
        ({"exclude": ["name"]}, "last"),
    ],
)
def test_any_arrangement_of_fields(rf, products, monkeypatch, options, place):
    request = rf.get("/")
    request.user = staff()
    for name, value in options.items():
        monkeypatch.setattr(ProductAdmin, name, value)
    model_admin = ProductAdmin(Product, admin.site)
    for product in (products[0], None):
        fieldsets = model_admin.get_fieldsets(request, product)
        names = flatten_fieldsets(fieldsets)
        assert model_admin.get_form(request, product, change=product is not None)
        assert names.count(PANEL) == (product is not None)
        if product is not None:
            assert PANEL in flatten_fieldsets([fieldsets[-1 if place == "last" else 0]])
    response = model_admin.changeform_view(request, str(products[0].pk))
    assert response.rendered_content.count("visual-search-panel") == 1
    assert model_admin.changeform_view(request, None).rendered_content.count("visual-search-panel") == 0


def test_readonly_fields_that_forget_the_mixin(rf, products, monkeypatch):
    monkeypatch.setattr(ProductAdmin, "get_readonly_fields", lambda self, request, obj=None: ["price"], raising=False)
    request = rf.get("/")
    request.user = staff()
    response = ProductAdmin(Product, admin.site).changeform_view(request, str(products[0].pk))
    assert "visual-search-panel" not in response.rendered_content


def test_no_neighbours(client, products, monkeypatch):
    monkeypatch.setattr(ProductAdmin, "visual_search_neighbours_shown", 0)
    client.force_login(staff())
    assert "visual-search-panel" not in page_of(client, products[0])


def test_odd_names_are_escaped(client, products, monkeypatch):
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    Product.objects.filter(pk=products[1].pk).update(name='"><img src=x onerror=alert(1)>')
    client.force_login(staff())
    page = page_of(client, products[0])
    assert "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page


def test_companions(client):
    for n in range(3):
        article = Article.objects.create(title=f"Article {n}")
        for seed in range(2):
            ArticleImage.objects.create(article=article, original=picture_file(10 * n + seed))
    embed_all(PICTURES)
    client.force_login(staff())
    page = page_of(client, Article.objects.first(), "article")
    assert page.count('class="visual-search-picture"') == 2
    # The nearest picture of each other article
    assert sum(page.count(image.original.url) for image in ArticleImage.objects.all()) == 2
