"""``{% load visual_search %}``: what shops put into their templates."""

import html
import logging
import re

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse
from django.template import Context, RequestContext, Template
from django.template.exceptions import TemplateSyntaxError
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from django_visual_search import feedback, storefront
from django_visual_search.models import Feedback, SearchLog
from django_visual_search.search import SearchResults
from django_visual_search.search.results import read_token

from ..conftest import embed_all, picture_file
from ..testshop.models import (
    Article,
    ArticleImage,
    Category,
    LongStory,
    Poster,
    Product,
    PublishedProduct,
    Spare,
    Story,
    StoryImage,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def product_page(request, pk):
    return HttpResponse(render(SIMILAR, request, product=Product.objects.get(pk=pk)))


urlpatterns = [
    path("visual-search/", include("django_visual_search.urls")),
    path("products/<int:pk>/", product_page),
]

SIMILAR = "{% similar_items product %}"


def published(request):
    return Product.objects.filter(is_published=True)


def for_staff(request):
    return Product.objects.all() if request is not None and request.GET.get("staff") else published(request)


@pytest.fixture
def request_(rf):
    return rf.get("/")


@pytest.fixture
def shop(settings, monkeypatch):
    """Sixteen products in two categories, with URLs and vectors; the last four are not published."""
    monkeypatch.setattr(Product, "get_absolute_url", lambda self: f"/products/{self.pk}/", raising=False)
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "VISIBLE": {"testshop.Product": "tests.integration.test_templatetags.published"},
    }
    categories = [Category.objects.create(name=f"c{i}") for i in range(2)]
    products = [
        Product.objects.create(
            name=f"<p{i}>", category=categories[i % 2], image=picture_file(i), is_published=i < 12, price=i
        )
        for i in range(16)
    ]
    embed_all()
    return products


@pytest.fixture
def articles():
    made = []
    for i in range(8):
        made.append(Article.objects.create(title=f"a{i}"))
        for j in range(1 + i % 3):
            ArticleImage.objects.create(article=made[-1], original=picture_file(100 * i + j), display_order=j)
    embed_all("testshop.ArticleImageEmbedding.embedding")
    return made


def render(source, request=None, **context):
    made = Context(context) if request is None else RequestContext(request, context)
    return Template("{% load visual_search %}" + source).render(made)


def keys(page):
    return re.findall(r'data-visual-search-product="([^"]+)"', page)


def token_in(page):
    return html.unescape(re.search(r'data-visual-search-token="([^"]+)"', page)[1])


def fresh(product):
    """Return the product as a page's view reads it."""
    return type(product).objects.get(pk=product.pk)


class TestSimilarItems:
    def test_shows_the_products_of_the_search_in_their_order(self, shop, request_):
        page = render(SIMILAR, request_, product=shop[0])
        assert keys(page) == [str(hit.product.pk) for hit in storefront.similar_items(shop[0], request_)]
        assert len(keys(page)) == 8
        assert str(shop[0].pk) not in keys(page)
        assert "<h2>Similar items</h2>" in page
        first = Product.objects.get(pk=keys(page)[0])
        assert f'<a href="/products/{first.pk}/" data-visual-search-product="{first.pk}">' in page
        assert f'<img src="{first.image.url}" alt=""' in page
        assert html.escape(first.name) in page
        assert "<p" + first.name[2:] not in page

    @pytest.mark.django_db(transaction=True)  # a savepoint would be two more
    def test_is_three_queries(self, shop, request_, django_assert_max_num_queries):
        for product in (shop[0], fresh(shop[0]), Product.objects.defer("embedding").get(pk=shop[0].pk)):
            with django_assert_max_num_queries(3):
                page = render(SIMILAR, request_, product=product)
            assert len(keys(page)) == 8

    @pytest.mark.django_db(transaction=True)  # a savepoint would be two more
    def test_is_three_queries_where_vectors_are_on_companions(self, articles, request_, django_assert_max_num_queries):
        product = fresh(articles[2])
        with django_assert_max_num_queries(3):
            page = render("{% similar_items product limit=5 %}", request_, product=product)
        assert len(keys(page)) == 5
        assert page.count("<img") == 5

    @pytest.mark.django_db(transaction=True)  # a savepoint would be two more
    def test_product_that_is_referred_to_by_another_column(self, request_, django_assert_max_num_queries):
        stories = [Story.objects.create(code=f"s{i}") for i in range(3)]
        stories.append(LongStory.objects.create(code="long"))
        for i, story in enumerate(stories):
            StoryImage.objects.create(story=Story.objects.get(code=story.code), original=picture_file(i))
        embed_all("testshop.StoryImageEmbedding.embedding")
        with django_assert_max_num_queries(3):
            page = render(SIMILAR, request_, product=stories[1])
        assert sorted(keys(page)) == sorted(str(story.pk) for story in stories if story != stories[1])

    @pytest.mark.parametrize("model", [Poster, Spare])
    def test_other_primary_keys(self, model, request_, settings):
        settings.USE_THOUSAND_SEPARATOR = True
        for i in range(4):
            key = {"sku": f"A/{i} <&>"} if model is Spare else {}
            model.objects.create(image=picture_file(i), **key)
        embed_all(f"testshop.{model.__name__}.embedding")
        first, *others = model.objects.order_by("pk")
        page = render(SIMILAR, request_, product=first)
        assert {html.unescape(key) for key in keys(page)} == {str(other.pk) for other in others}
        events = [("click", html.unescape(key)) for key in keys(page)]
        assert feedback.report(request_, token_in(page), events).counted == 3

    def test_primary_keys_are_not_localised(self, shop, request_, settings):
        settings.USE_THOUSAND_SEPARATOR = True
        Product.objects.create(pk=1234567, name="large", image=picture_file(0))
        embed_all()
        assert "1234567" in keys(render(SIMILAR, request_, product=shop[0]))

    def test_invisible_products_never_show(self, shop, request_):
        hidden = {str(product.pk) for product in shop[12:]}
        page = render("{% similar_items product limit=50 %}", request_, product=shop[0])
        assert len(keys(page)) == 11
        assert not hidden & set(keys(page))
        within = Product.objects.filter(pk__in=[product.pk for product in shop[10:]])
        for queryset in (
            within,
            within.order_by("-pk")[:6],
            within.union(within.none()),
            within.order_by("pk").distinct("pk"),
        ):
            page = render(
                "{% similar_items product limit=50 within=within %}", request_, product=shop[0], within=queryset
            )
            assert set(keys(page)) == {str(shop[10].pk), str(shop[11].pk)}, queryset.query

    def test_what_is_visible_depends_on_the_request(self, shop, settings, rf):
        settings.VISUAL_SEARCH = {
            **settings.VISUAL_SEARCH,
            "VISIBLE": {"testshop.product": "tests.integration.test_templatetags.for_staff"},
        }
        source = "{% similar_items product limit=50 %}"
        assert len(keys(render(source, rf.get("/?staff=1"), product=shop[0]))) == 15
        assert len(keys(render(source, rf.get("/"), product=shop[0]))) == 11
        assert len(keys(render(source, product=shop[0]))) == 11

    def test_a_proxys_manager_decides_without_a_setting(self, shop, settings, request_):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": {}}
        product = PublishedProduct.objects.get(pk=shop[0].pk)
        source = "{% similar_items product limit=50 within=within %}"
        settings.DEBUG = True  # with it off, nothing is shown without a setting or "within"
        assert len(keys(render("{% similar_items product limit=50 %}", request_, product=product))) == 11
        settings.DEBUG = False
        for within in (PublishedProduct.objects.all(), Product.objects.all(), Product.objects):
            page = render(source, request_, product=product, within=within)
            assert len(keys(page)) == 11

    def test_options(self, shop, request_):
        within = Product.objects.filter(category=shop[1].category)
        source = "{% similar_items product limit=3 within=within field='testshop.Product.embedding' title='More' %}"
        page = render(source, request_, product=shop[0], within=within)
        assert len(keys(page)) == 3
        assert {shop[1].category_id} == {Product.objects.get(pk=key).category_id for key in keys(page)}
        assert 'class="visual-search-similar" aria-label="More">' in page
        assert "<h2>" not in render("{% similar_items product title='' %}", request_, product=shop[0])
        hits = storefront.similar_items(shop[0], request_)
        page = render(
            "{% similar_items product min_similarity=least %}", request_, product=shop[0], least=hits[2].similarity
        )
        assert len(keys(page)) == 3

    def test_title_is_translated_and_escaped(self, shop, request_):
        page = render("{% similar_items product title=title %}", request_, product=shop[0], title='<b>"More"')
        assert "<b>" not in page

    @pytest.mark.django_db(transaction=True)  # a savepoint would be two more
    def test_within_selects_what_the_template_needs(self, shop, request_, django_assert_max_num_queries):
        source = "{% get_similar_items product within=within as items %}"
        source += "{% for hit in items %}{{ hit.product.category.name }}{% endfor %}"
        product = fresh(shop[0])
        with django_assert_max_num_queries(3):
            page = render(source, request_, product=product, within=Product.objects.select_related("category"))
        assert page.count("c") == 8

    def test_request_is_not_needed(self, shop):
        page = render(SIMILAR, product=shop[0])
        assert len(keys(page)) == 8
        assert not SearchLog.objects.exists()

    def test_request_context_without_the_context_processor(self, shop, rf, settings):
        settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
        settings.VISUAL_SEARCH = {
            **settings.VISUAL_SEARCH,
            "VISIBLE": {"testshop.Product": "tests.integration.test_templatetags.for_staff"},
        }
        assert len(keys(render("{% similar_items product limit=50 %}", rf.get("/?staff=1"), product=shop[0]))) == 15

    def test_shop_overrides_the_template(self, shop, request_, settings, tmp_path):
        (tmp_path / "visual_search").mkdir()
        (tmp_path / "visual_search" / "similar_items.html").write_text(
            "{{ title }} of {{ product.name }} at {{ request.path }}: "
            "{% for card in cards %}{{ card.hit.rank }} {{ card.title }} {{ card.hit.reasons.0 }};{% endfor %}"
        )
        (templates,) = settings.TEMPLATES
        settings.TEMPLATES = [{**templates, "DIRS": [tmp_path]}]
        page = render("{% similar_items product limit=2 %}", request_, product=shop[0])
        assert re.fullmatch(r"Similar items of &lt;p0&gt; at /: 1 &lt;p\d+&gt; visual;2 &lt;p\d+&gt; visual;", page)


class TestNothing:
    def test_product_without_a_vector(self, shop, request_):
        new = Product.objects.create(name="new")
        assert render(SIMILAR, request_, product=new) == ""
        assert render("{% get_similar_items product as items %}{{ items|length }}", request_, product=new) == "0"

    def test_product_that_is_not_saved(self, shop, request_):
        assert render(SIMILAR, request_, product=Product(name="unsaved")) == ""

    def test_no_product(self, shop, request_):
        assert render(SIMILAR, request_, product=None) == ""

    def test_nothing_visible(self, shop, request_):
        Product.objects.update(is_published=False)
        assert render(SIMILAR, request_, product=shop[0]) == ""

    def test_product_without_a_url_or_a_picture(self, articles, request_):
        page = render(SIMILAR, request_, product=articles[0])
        assert "<a " not in page
        assert page.count("<span data-visual-search-product=") == 7
        ArticleImage.objects.update(original="")
        page = render(SIMILAR, request_, product=articles[0])
        assert len(keys(page)) == 7
        assert "<img" not in page


class TestMistakes:
    def test_wrong_name_of_a_variable(self, shop, request_):
        with pytest.raises(TypeError, match="need a product, not ''"):
            render("{% similar_items prodcut %}", request_, product=shop[0])

    def test_model_without_an_embedding_field(self, shop, request_):
        with pytest.raises(LookupError, match=r"There is no embedding field 'testshop\.Category'"):
            render(SIMILAR, request_, product=shop[0].category)

    def test_unknown_option(self):
        with pytest.raises(TemplateSyntaxError, match="unexpected keyword argument 'limits'"):
            render("{% similar_items product limits=3 %}")

    @pytest.mark.parametrize(
        "options", ["limit=0", "limit='8'", "within=8", "within=categories", "field='no.such.one'"]
    )
    def test_values(self, options, shop, request_):
        with pytest.raises((ValueError, LookupError)):
            render(
                f"{{% similar_items product {options} %}}", request_, product=shop[0], categories=Category.objects.all()
            )


class TestDatabaseTrouble:
    """A fault of ours breaks no page."""

    def break_the_search(self):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE testshop_product RENAME COLUMN embedding TO gone")

    @pytest.mark.parametrize("server_side_binding", [False, True])
    def test_inside_a_transaction(self, shop, request_, caplog, server_side_binding, monkeypatch):
        product = fresh(shop[0])
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "server_side_binding", server_side_binding)
        with transaction.atomic():
            Category.objects.create(name="written by the page")
            self.break_the_search()
            with caplog.at_level(logging.ERROR):
                assert render(SIMILAR, request_, product=product) == ""
                assert render("{% get_similar_items product as i %}{{ i|length }}", request_, product=product) == "0"
            assert Category.objects.filter(name="written by the page").exists()
            assert f"no similar items for testshop.Product {product.pk}" in caplog.text
            assert "UndefinedColumn" in caplog.text
            connection.set_rollback(True)

    @pytest.mark.django_db(transaction=True)
    def test_outside_of_a_transaction(self, shop, request_, caplog):
        product = fresh(shop[0])
        self.break_the_search()
        try:
            assert render(SIMILAR, request_, product=product) == ""
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE testshop_product RENAME COLUMN gone TO embedding")
        assert "no similar items" in caplog.text
        assert len(keys(render(SIMILAR, request_, product=product))) == 8

    @pytest.mark.django_db(transaction=True)
    def test_a_transaction_that_is_lost_raises(self, shop, request_):
        product = fresh(shop[0])

        def page():
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    (pid,) = cursor.fetchone()
                other = connection.copy()
                with other.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
                other.close()
                render(SIMILAR, request_, product=product)

        with pytest.raises(DatabaseError):
            page()
        connection.close()

    def test_savepoint_is_two_statements_more(self, shop, request_):
        with CaptureQueriesContext(connection) as queries:
            render(SIMILAR, request_, product=fresh(shop[0]))
        assert len(queries) <= 6  # fresh() is one
        assert [query["sql"].split()[0] for query in queries].count("SAVEPOINT") == 1


class TestFeedback:
    def test_token_in_the_markup_works(self, shop, request_):
        page = render(SIMILAR, request_, product=shop[0])
        assert 'data-visual-search-url="/visual-search/feedback/"' in page
        offered = keys(page)
        report = feedback.report(request_, token_in(page), [("impression", offered[0]), ("click", offered[2])])
        assert report.counted == 2
        click = Feedback.objects.get(kind="click")
        assert (click.object_id, click.rank, click.query_id) == (offered[2], 3, str(shop[0].pk))
        with pytest.raises(feedback.NotOffered):
            feedback.report(request_, token_in(page), [("click", str(shop[15].pk))])

    def test_no_attributes_without_our_urls(self, shop, request_, settings):
        settings.ROOT_URLCONF = "django.contrib.auth.urls"  # without ours
        page = render(SIMILAR, request_, product=shop[0])
        assert len(keys(page)) == 8
        assert "data-visual-search-token" not in page

    def test_attributes_for_markup_of_the_shop(self, shop, request_):
        source = "{% get_similar_items product limit=3 as items %}<ul {% feedback_attributes items %}>"
        page = render(source, request_, product=shop[0])
        assert len(read_token(token_in(page)).places) == 3
        assert render("<ul {% feedback_attributes items %}>", items=None) == "<ul >"

    def test_search_is_logged_after_the_response(self, shop, client):
        with CaptureQueriesContext(connection) as queries:
            page = client.get(f"/products/{shop[0].pk}/").content.decode()
        assert len(keys(page)) == 8
        statements = [query["sql"] for query in queries]
        logged = [i for i, statement in enumerate(statements) if "visual_search_searchlog" in statement]
        asked = [i for i, statement in enumerate(statements) if "testshop_product" in statement]
        assert min(logged) > max(asked)
        log = SearchLog.objects.get(pk=read_token(token_in(page)).search)
        assert (log.kind, log.query_id, log.results) == ("product", str(shop[0].pk), 8)
        assert log.milliseconds > 0


class TestGetSimilarItems:
    def test_gives_results(self, shop, request_):
        context = RequestContext(request_, {"product": shop[0]})
        page = Template("{% load visual_search %}{% get_similar_items product limit=4 as items %}").render(context)
        assert page == ""
        assert isinstance(context["items"], SearchResults)
        assert [hit.rank for hit in context["items"]] == [1, 2, 3, 4]


class TestPhotoSearchForm:
    def test_sends_to_the_page(self, request_):
        page = render('{% photo_search_form "testshop.Product" %}', request_)
        assert 'method="post" enctype="multipart/form-data" action="/visual-search/photo/testshop/product/"' in page
        assert 'name="csrfmiddlewaretoken"' in page
        assert page.count('type="file" name="image" accept="image/*"') == 2
        assert 'capture="environment"' in page
        assert "style=" not in page
        assert page.count("<script") == page.count('<script type="module" src="') == 1

    def test_compact(self, request_):
        page = render('{% photo_search_form "testshop.Product" compact=True nonce="abc" %}', request_)
        assert page.count('type="file"') == 1
        assert 'photo_search.js" nonce="abc"></script>' in page
        assert "crop" not in page

    def test_sends_elsewhere(self, request_):
        for label in ("testshop.Article", "testshop.PublishedProduct"):
            assert 'action="/here/"' in render(f'{{% photo_search_form "{label}" action="/here/" %}}', request_)

    def test_without_urls(self, request_, settings):
        settings.ROOT_URLCONF = "django.contrib.auth.urls"  # without ours
        with pytest.raises(ImproperlyConfigured, match=r'include\("django_visual_search.urls"\)'):
            render('{% photo_search_form "testshop.Product" %}', request_)
        assert "/here/" in render('{% photo_search_form "testshop.Product" action="/here/" %}', request_)

    @pytest.mark.parametrize(
        "label",
        ["testshop.Category", "no.Such", "Product", "testshop.ArticleImageEmbedding", "testshop.PublishedProduct"],
    )
    def test_model_that_is_not_found_by_pictures(self, label, request_):
        with pytest.raises(LookupError):
            render(f'{{% photo_search_form "{label}" %}}', request_)


class TestScript:
    def test_is_one_deferred_file(self):
        assert render("{% visual_search_script %}") == (
            '<script src="/static/django_visual_search/feedback.js" defer></script>'
        )
        assert render("{% visual_search_script nonce=nonce %}", nonce="a&b") == (
            '<script src="/static/django_visual_search/feedback.js" defer nonce="a&amp;b"></script>'
        )
