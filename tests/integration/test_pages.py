"""The photo search page, used as by a browser without scripts."""

import html
import io
import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from django_visual_search import feedback, images
from django_visual_search.api.bodies import ROOM
from django_visual_search.fields.registry import get_field
from django_visual_search.models import Feedback, SearchLog
from django_visual_search.storefront import gate
from django_visual_search.storefront.forms import preview

from ..conftest import embed_all, picture, picture_file
from ..testshop.models import Article, ArticleImage, Category, Product

pytestmark = pytest.mark.django_db

PAGE = "/visual-search/photo/testshop/product/"


def published(request):
    return Product.objects.filter(is_published=True)


@pytest.fixture(autouse=True)
def nobody_was_here():
    cache.clear()


@pytest.fixture
def shop(settings, monkeypatch):
    """Forty products, of which the last ten are not published."""
    monkeypatch.setattr(Product, "get_absolute_url", lambda self: f"/products/{self.pk}/", raising=False)
    monkeypatch.setattr(Product, "__str__", lambda self: self.name)
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "VISIBLE": {"testshop.Product": "tests.integration.test_pages.published"},
    }
    products = [Product.objects.create(name=f"<p{i}>", image=picture_file(i), is_published=i < 30) for i in range(40)]
    embed_all()
    return products


def send(client, data, name="photo.jpg", address=PAGE):
    return client.post(address, {"image": SimpleUploadedFile(name, data)})


def text(response):
    return response.content.decode()


def keys(response):
    return re.findall(r'data-visual-search-product="([^"]+)"', text(response))


def errors(response):
    return [
        html.unescape(e)
        for e in re.findall(r'<p class="visual-search-error" role="alert"[^>]*>([^<]+)', text(response))
    ]


class TestForm:
    def test_get(self, shop, client):
        page = client.get(PAGE)
        assert page.status_code == 200
        assert f'action="{PAGE}"' in text(page)
        assert errors(page) == keys(page) == []
        assert "Nothing found" not in text(page)

    def test_nothing_is_inline(self, shop, client):
        for page in (client.get(PAGE), send(client, picture(3))):
            assert not re.search(r"<style|style=| on\w+=|<script>|javascript:", text(page))
            assert re.findall(r"<script[^>]*>", text(page)) == [
                '<script src="/static/django_visual_search/feedback.js" defer>',
                '<script type="module" src="/static/django_visual_search/photo_search.js">',
            ]

    @pytest.mark.parametrize(
        "name",
        ["category", "featuredproduct", "publishedproduct", "articleimageembedding", "item", "longstory", "none"],
    )
    def test_only_models_that_a_field_finds(self, name, client):
        assert client.get(f"/visual-search/photo/testshop/{name}/").status_code == 404
        assert send(client, picture(0), address=f"/visual-search/photo/testshop/{name}/").status_code == 404

    def test_other_methods(self, client):
        assert client.put(PAGE).status_code == 405

    def test_needs_the_csrf_token(self, shop):
        strict = Client(enforce_csrf_checks=True)
        assert send(strict, picture(3)).status_code == 403
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text(strict.get(PAGE)))[1]
        sent = {"image": SimpleUploadedFile("photo.jpg", picture(3)), "csrfmiddlewaretoken": token}
        assert strict.post(PAGE, sent).status_code == 200


class TestLongRequests:
    """A request that is too long is refused before it is read; the rest is drained."""

    @pytest.mark.parametrize(
        ("content_type", "size"),
        [
            ("multipart/form-data; boundary=b", images.ImageOptions().max_bytes + ROOM + 1),
            ("application/x-www-form-urlencoded", 3 * 2**20),
        ],
    )
    def test_too_long(self, shop, content_type, size):
        answer = Client(enforce_csrf_checks=True).generic("POST", PAGE, bytes(size), content_type)
        assert answer.status_code == 413
        (said,) = errors(answer)
        assert "larger than" in said
        assert 'type="file"' in text(answer)
        assert answer.wsgi_request.read() == b""

    def test_without_a_length(self, shop, client):
        headers = {"CONTENT_TYPE": "multipart/form-data; boundary=b", "CONTENT_LENGTH": ""}
        answer = client.generic("POST", PAGE, HTTP_TRANSFER_ENCODING="chunked", **headers)
        assert answer.status_code == 411
        assert "Content-Length" in errors(answer)[0]

    def test_a_refused_csrf_token_leaves_nothing_unread(self, shop):
        strict = Client(enforce_csrf_checks=True)
        answer = send(strict, bytes(5_000_000))
        assert answer.status_code == 403
        assert answer.wsgi_request.read() == b""


class TestResults:
    def test_hits_in_rank_order(self, shop, client):
        page = send(client, picture(7))
        assert page.status_code == 200
        assert [str(hit.product.pk) for hit in page.context["results"]] == keys(page)
        assert len(keys(page)) == 24
        assert keys(page)[0] == str(shop[7].pk)
        assert f'<a href="/products/{shop[7].pk}/"' in text(page)
        assert f'<img src="{shop[7].image.url}"' in text(page)
        assert "&lt;p7&gt;" in text(page)
        assert "<ol" in text(page)

    def test_invisible_products_never_show(self, shop, client):
        for i in (31, 35, 39):
            assert not set(keys(send(client, picture(i)))) & {str(product.pk) for product in shop[30:]}

    def test_photo_is_not_kept(self, shop, client, media):
        before = sorted(path for path in media.rglob("*"))
        page = send(client, picture(7))
        assert "data:" not in text(page)  # a strict policy allows no such picture
        assert sorted(path for path in media.rglob("*")) == before

    def test_companions(self, client):
        for i in range(3):
            article = Article.objects.create(title=f"a{i}")
            for j in range(2):
                ArticleImage.objects.create(article=article, original=picture_file(10 * i + j))
        embed_all("testshop.ArticleImageEmbedding.embedding")
        page = send(client, picture(11), address="/visual-search/photo/testshop/article/")
        assert len(keys(page)) == 3
        assert keys(page)[0] == str(Article.objects.get(title="a1").pk)
        matched = ArticleImage.objects.get(article__title="a1", original__contains="11")
        assert text(page).index(matched.original.url) < text(page).index('<span class="visual-search-title">')

    def test_nothing_found(self, client):
        page = send(client, picture(0))
        assert page.status_code == 200
        assert "Nothing found" in text(page)

    def test_feedback_and_log(self, shop, client, rf):
        page = send(client, picture(7))
        token = html.unescape(re.search(r'data-visual-search-token="([^"]+)"', text(page))[1])
        assert feedback.report(rf.get("/"), token, [("click", keys(page)[3])]).counted == 1
        click = Feedback.objects.get(kind="click")
        assert (click.rank, click.query_kind) == (4, "photo")
        log = SearchLog.objects.get(pk=click.search)
        assert (log.kind, log.results, log.query_id) == ("photo", 30, "")


class TestFurtherSearches:
    """By links and forms of the page, without the photo."""

    @pytest.fixture
    def offers(self, shop, settings):
        """The shop with two categories and an offer of facets and orders, and the page of a photo."""
        settings.VISUAL_SEARCH = {
            **settings.VISUAL_SEARCH,
            "STOREFRONT": {"testshop.Product": {"FACETS": ["category", "price"], "PRICE": "price", "NEWEST": "pk"}},
        }
        hats, mugs = (Category.objects.create(name=name) for name in ("Hats", "Mugs"))
        Category.__str__ = lambda self: self.name
        for i, product in enumerate(shop):
            Product.objects.filter(pk=product.pk).update(category=hats if i % 3 else mugs, price=i % 2)
        yield shop
        del Category.__str__

    def test_facets_orders_and_more(self, offers, client):
        page = send(client, picture(7))
        found = page.context["found"]
        assert [facet.name for facet in found.facets] == ["Category", "Price"]
        assert [(one.name, one.count) for one in found.facets[0].choices] == [("Hats", 20), ("Mugs", 10)]
        hats = client.get(found.facets[0].choices[0].url)
        whole = [str(hit.product.pk) for hit in client.get(found.more_url).context["results"]]
        assert len(whole) == 30
        assert keys(page) == whole[:24]
        assert keys(hats) == [pk for pk in whole if Product.objects.get(pk=pk).category.name == "Hats"]
        (chip,) = hats.context["found"].chips
        assert (chip.name, [facet.name for facet in hats.context["found"].facets]) == ("Category: Hats", ["Price"])
        assert keys(client.get(chip.url)) == keys(page)
        dear = client.get(next(one.url for one in found.orders if one.value == "-price"))
        prices = [hit.product.price for hit in dear.context["results"]]
        assert prices == sorted(prices, reverse=True)
        assert [hit.rank for hit in dear.context["results"]] == list(range(1, 25))
        # Nothing tells which are close, so the page's most similar are sorted, not the dearest of the catalogue found.
        assert set(keys(dear)) == set(whole[:24])
        dearer = client.get(dear.context["found"].more_url)
        prices = [hit.product.price for hit in dearer.context["results"]]
        assert (set(keys(dearer)), prices) == (set(whole), sorted(prices, reverse=True))

    def test_a_search_is_logged_once_and_its_clicks_count(self, offers, client, rf):
        page = send(client, picture(7))
        for _again in range(2):
            page = client.get(page.context["found"].more_url or page.context["found"].url)
        log = SearchLog.objects.get(kind="photo")
        token = html.unescape(re.search(r'data-visual-search-token="([^"]+)"', text(page))[1])
        assert feedback.report(rf.get("/"), token, [("click", keys(page)[29])]).counted == 1
        assert Feedback.objects.get(kind="click").search == log.pk

    @pytest.mark.parametrize(
        "wish", ["facet_category=x%00", "facet_category=99999", "sort=name", "pages=9999", "text=+"]
    )
    def test_odd_wishes(self, wish, offers, client):
        url = send(client, picture(7)).context["found"].url
        assert client.get(f"{url}&{wish}").status_code == 200

    def test_expired(self, shop, client):
        url = send(client, picture(7)).context["found"].url
        cache.clear()
        page = client.get(url)
        assert (page.status_code, errors(page)) == (410, ["This search has expired. Send the photo again."])
        assert "data-expired" in text(page)
        assert 'type="file"' in text(page)

    def test_a_part_of_the_photo(self, shop, client):
        both = Image.new("RGB", (200, 100))
        for i in range(2):
            both.paste(Image.open(io.BytesIO(picture(7 + i))).resize((100, 100)), (100 * i, 0))
        file = io.BytesIO()
        both.save(file, "PNG")
        for i, edges in enumerate([{"crop_right": "50"}, {"crop_left": "50.0"}]):
            photo = SimpleUploadedFile("photo.png", file.getvalue())
            page = client.post(PAGE, {"image": photo, **edges})
            assert keys(page)[0] == str(shop[7 + i].pk)
        photo = SimpleUploadedFile("photo.png", file.getvalue())
        page = client.post(PAGE, {"image": photo, "crop_left": "60", "crop_right": "50"})
        assert (page.status_code, len(errors(page))) == (422, 1)


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"this is no picture", "JPEG"),
            (picture(0)[:300], "broken"),
            (picture(0, size=4), "pixels"),
            (b"", "The file is empty"),
        ],
    )
    def test_with_a_reason(self, data, says, shop, client):
        page = send(client, data)
        assert page.status_code == 422
        (error,) = errors(page)
        assert says in error
        assert 'aria-describedby="visual-search-image-error"' in text(page)
        assert keys(page) == []
        assert not SearchLog.objects.filter(kind="photo").exists()

    def test_no_photo(self, shop, client):
        page = client.post(PAGE, {})
        assert (page.status_code, errors(page)) == (422, ["Choose a photo first."])
        page = client.post(PAGE, {"image": "text"})
        assert (page.status_code, errors(page)) == (422, ["Choose a photo first."])

    def test_too_large(self, shop, client, settings):
        options = {"OPTIONS": {"images": {"max_bytes": 2000}}}
        extractor = {"BACKEND": "tests.testshop.extractors.ColourExtractor", **options}
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXTRACTORS": {"default": extractor}}
        page = send(client, picture(0, size=500))
        assert page.status_code == 422
        assert "larger than" in errors(page)[0]

    def test_busy(self, shop, client, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "PHOTO_SEARCHES_AT_ONCE": 1}
        with gate.photo_slot():
            page = send(client, picture(0))
        assert page.status_code == 503
        assert 1 <= int(page["Retry-After"]) <= 10
        assert errors(page) == ["Too many photo searches are running. Try again in a few seconds."]
        assert send(client, picture(0)).status_code == 200

    def test_too_often(self, shop, client, settings):
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "THROTTLE_RATES": {"photo": "2/min"}}
        assert [send(client, picture(i)).status_code for i in range(2)] == [200, 200]
        page = send(client, picture(2))
        assert page.status_code == 429
        assert 1 <= int(page["Retry-After"]) <= 60
        assert "many photos" in errors(page)[0]
        assert keys(page) == []
        assert client.get(PAGE).status_code == 200
        answer = client.post("/visual-search/testshop/product/search-by-image/")
        assert answer.status_code == 429, "together with the API"
        assert answer.json() == {"detail": errors(page)[0], "code": "throttled"}
        assert 1 <= int(answer["Retry-After"]) <= 60

    def test_extractor_that_does_not_run_here(self, shop, client, settings, caplog):
        extractor = {
            "BACKEND": "django_visual_search.extractors.keras.KerasExtractor",
            "OPTIONS": {"weights": "/nowhere/secret.weights.h5", "weights_sha256": "0" * 64},
        }
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "EXTRACTORS": {"default": extractor}}
        page = send(client, picture(0))
        assert page.status_code == 503
        assert page["Retry-After"]
        assert "not available at the moment" in errors(page)[0]
        assert "secret" not in text(page)
        assert "secret" in caplog.text  # for those who run the shop


class TestPreview:
    def test_large_pictures_cost_too_much(self):
        field = get_field("testshop.Product")
        for kind, size, shown in (
            ("JPEG", (6000, 6000), True),
            ("WebP", (2000, 2000), True),
            ("WebP", (4000, 2500), False),
        ):
            file = io.BytesIO()
            Image.new("RGB", size, "teal").save(file, kind)
            assert bool(preview(file.getvalue(), field)) is shown, (kind, size)
