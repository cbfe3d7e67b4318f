"""The confidence of hits, and results that are empty because none is close enough."""

import io
import json
import math
import re
from functools import partial

import numpy as np
import pytest
from django.urls import reverse
from PIL import Image
from rest_framework.test import APIClient

from django_visual_search import search
from django_visual_search.fields.registry import get_field
from django_visual_search.learning.calibration import Calibration, ConfidenceCurve, Identification
from django_visual_search.models import ServingSpace
from django_visual_search.results import read_token
from django_visual_search.search.confidence import Confidence, ConfidenceUnknown
from django_visual_search.spaces import live
from django_visual_search.storefront import search_by_photo
from django_visual_search.training import switching

from ..conftest import embed_all, picture, picture_file
from ..heads import EXTRACTORS, LABEL, make_head
from ..testshop.models import Category, Product

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
COUNT = 10


def calibration(**categories):
    """Straight lines from similarity 0.2 (nothing) to 0.9 (certain), and other ones for categories."""
    curve = ConfidenceCurve((0.2, 0.9), (0.0, 1.0), 100)
    return Calibration("isotonic", curve, categories).as_json()


@pytest.fixture
def field(settings, monkeypatch):
    settings.VISUAL_SEARCH = {
        "EXTRACTORS": EXTRACTORS,
        "VISIBLE": {"testshop.Product": "tests.testshop.selectors.visible_products"},
    }
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    hats, shoes = (Category.objects.create(name=name) for name in ("hats", "shoes"))
    for i in range(COUNT):
        Product.objects.create(name=str(i), image=picture_file(i), category=hats if i % 2 else shoes)
    return get_field(LABEL)


def serve(field, **columns):
    head = make_head("one", **columns)
    switching.announce(field, switching.space_named(field, "one"))
    embed_all()
    return head


def test_nothing_was_learned(field):
    embed_all()
    assert [hit.confidence for hit in search.search_by_image(picture(0), LABEL, limit=3)] == [None] * 3
    with pytest.raises(ConfidenceUnknown, match=r"No confidence was learned for .*: run .manage.py"):
        search.search_by_image(picture(0), LABEL, min_confidence=0.5)


def test_each_hit_has_the_confidence_of_its_similarity(field):
    serve(field, calibration=calibration())
    hits = search.search_by_image(picture(0), LABEL, limit=COUNT)
    for hit in hits:
        assert hit.confidence == pytest.approx(min(1, max(0, (hit.similarity - 0.2) / 0.7)), abs=1e-6)
    assert hits[0].confidence == 1.0


def test_hits_below_the_least_confidence_are_left_out(field):
    serve(field, calibration=calibration())
    every = search.search_by_image(picture(0), LABEL, limit=COUNT)
    sure = search.search_by_image(picture(0), LABEL, limit=COUNT, min_confidence=0.5)
    assert [hit.product for hit in sure] == [hit.product for hit in every if hit.confidence >= 0.5]
    assert 0 < len(sure) < COUNT
    assert sure.left_out == COUNT - len(sure)
    assert not sure.nothing_close


def test_hits_after_a_sure_one_are_judged_among_themselves(field):
    """Whether the shop has it is seen by the best hit; in an answer and on its later pages."""
    alone, further = ConfidenceCurve((0.2, 0.9), (0.0, 1.0), 100), ConfidenceCurve((-1.0, 0.0), (0.0, 0.8), 100)
    serve(field, calibration=Calibration("platt", alone, further=further).as_json())
    hits = search.search_by_image(picture(0), LABEL, limit=COUNT)
    assert hits[0].confidence == 1.0
    for hit in hits[1:]:
        assert hit.confidence == pytest.approx(0.8 * min(1, max(0, 1 + hit.similarity)), abs=1e-6)
    assert len(search.search_by_image(picture(0), LABEL, limit=COUNT, min_confidence=0.75)) > 3
    few = search.search_by_image(picture(0), LABEL, limit=2, depth=COUNT)
    later = search.next_page(read_token(few.token), limit=COUNT)
    assert [hit.confidence for hit in later] == pytest.approx([hit.confidence for hit in hits[2:]], abs=1e-3)
    # What the shop has not makes no hit sure, however alike the others are.
    two = Product.objects.filter(pk__in=[hit.product.pk for hit in hits[-2:]])
    assert max(hit.confidence for hit in search.search_by_image(picture(0), LABEL, within=two)) < 0.5


def test_nothing_is_close_enough(field):
    serve(field, calibration=Calibration("isotonic", ConfidenceCurve((0.0, 1.0), (0.0, 0.3), 100)).as_json())
    hits = search.search_by_image(picture(0), LABEL, min_confidence=0.5)
    assert len(hits) == 0
    assert hits.nothing_close
    assert not search.search_by_image(picture(0), LABEL, within=Product.objects.none()).nothing_close


@pytest.mark.django_db(transaction=True)
def test_by_category(field, django_assert_max_num_queries):
    hats = Category.objects.get(name="hats")
    unsure = ConfidenceCurve((-1.0, 1.0), (0.1, 0.1), 100)
    serve(field, calibration=calibration(**{str(hats.pk): unsure}), summary={"labels": ["category"]})
    hits = search.search_by_image(picture(1), LABEL, limit=COUNT)
    assert {hit.confidence for hit in hits if hit.product.category_id == hats.pk} == {0.1}
    assert max(hit.confidence for hit in hits if hit.product.category_id != hats.pk) > 0.1
    with django_assert_max_num_queries(4):
        sure = search.search_by_image(picture(1), LABEL, limit=COUNT, min_confidence=0.11)
    assert "hats" not in {hit.product.category.name for hit in sure}


def test_hits_of_later_pages_have_a_confidence(field):
    serve(field, calibration=calibration())
    results = search.search_by_image(picture(0), LABEL, limit=4, depth=COUNT)
    page = search.next_page(results.ranking, limit=4)
    assert all(0 <= hit.confidence <= results[-1].confidence for hit in page)


def test_during_a_switch_hits_without_a_calibration_are_kept(field):
    embed_all()
    serve(field, calibration=calibration())
    ServingSpace.objects.update(finished_at=None)
    live.forget_live_spaces()
    old = Product.objects.get(name="3")
    tight = live.live_spaces(field).other
    assert tight is not None
    assert len(Confidence(field).by_key) == 1
    assert len(search.similar_to(old, limit=COUNT, min_confidence=0.0)) == COUNT - 1


def identifying(**changes):
    """A calibration by which a hit is the very product from a margin of about 0.1."""
    same = Identification(**{"similarity": 0.0, "margin": 40.0, "level": -4.0, "queries": 50, **changes})
    curve = ConfidenceCurve((0.2, 0.9), (0.0, 1.0), 100)
    return Calibration("platt", curve, same_product=same).as_json()


def test_the_very_product_is_set_apart_from_similar_ones(field):
    serve(field, calibration=identifying())
    results = search.search_by_image(picture(3), LABEL, limit=COUNT)
    first = results[0]
    gap = first.similarity - results[1].similarity
    assert gap > 0.1, "the pictures of this shop are far apart"
    assert first.same_product == pytest.approx(1 / (1 + math.exp(-(40 * min(gap, 0.2) - 4))), abs=1e-6)
    assert [hit.rank for hit in results.same_products] == [1]
    assert [hit.rank for hit in results.similar] == list(range(2, COUNT + 1))
    assert search.search_by_image(picture(3), LABEL, limit=1)[0].same_product == first.same_product
    page = search.next_page(search.search_by_image(picture(3), LABEL, limit=4, depth=COUNT).ranking, limit=4)
    assert [hit.same_product for hit in page] == pytest.approx([hit.same_product for hit in results[4:8]], rel=0.05)
    product = Product.objects.get(name="3")
    assert {hit.same_product for hit in search.similar_to(product, limit=COUNT)} == {None}


def test_of_two_products_with_one_picture_neither_is_the_very_one(field):
    Product.objects.create(name="twin", image=picture_file(3))
    serve(field, calibration=identifying())
    results = search.search_by_image(picture(3), LABEL, limit=COUNT)
    assert {results[0].product.name, results[1].product.name} == {"3", "twin"}
    assert results.same_products == []


def test_a_head_that_did_not_learn_it_sets_nothing_apart(field):
    serve(field, calibration=calibration())
    results = search.search_by_image(picture(3), LABEL, limit=3)
    assert [hit.same_product for hit in results] == [None] * 3
    assert len(results.similar) == 3


LITE = "django_visual_search.extractors.lite.EfficientNetLiteExtractor"
SURE = Calibration(
    "platt", ConfidenceCurve((-1.0, 1.0), (1.0, 1.0), 100), same_product=Identification(0.0, 0.0, 9.0, 50)
).as_json()
"""By which every hit is right, and the very product."""


@pytest.mark.parametrize("size", [(320, 240), (240, 240), (100, 300)])
def test_a_photo_of_nothing_shows_no_product_to_a_network(field, settings, size):
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": {"BACKEND": LITE}}}
    serve(field, calibration=SURE)
    for colour in ("white", "black", "grey", "beige", "crimson"):
        blank = jpeg(Image.new("RGB", size, colour))
        hits = search.search_by_image(blank, LABEL, limit=3, depth=COUNT)
        later = search.next_page(read_token(hits.token), limit=3)
        assert [(hit.confidence, hit.same_product) for hit in [*hits, *later]] == [(0.0, 0.0)] * 6, colour
        assert search.search_by_image(blank, LABEL, min_confidence=0.5).nothing_close
        *_, whole = search.search_objects(blank, LABEL, limit=3)
        assert {hit.confidence for hit in whole.results} == {0.0}


def test_a_photo_with_the_least_detail_is_a_photo(field, settings):
    settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": {"BACKEND": LITE}}}
    serve(field, calibration=SURE)
    wall = np.full((240, 320, 3), 180.0) + np.linspace(-5, 5, 320)[:, None]  # 5 % less light at one side
    dot = Image.new("RGB", (320, 240), "white")
    dot.paste("black", (150, 110, 170, 130))
    for picture_of in (Image.fromarray(wall.astype(np.uint8)), dot):
        assert search.search_by_image(jpeg(picture_of), LABEL)[0].confidence == 1.0


def test_a_plain_tile_is_a_fair_question_to_a_descriptor_of_colours(field):
    serve(field, calibration=SURE)
    assert search.search_by_image(jpeg(Image.new("RGB", (320, 240), "crimson")), LABEL)[0].confidence == 1.0


def jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


@pytest.mark.parametrize("level", [-4.0, -40.0])
def test_the_photo_page_has_a_heading_for_each_group(field, client, level):
    serve(field, calibration=identifying(level=level))
    address = reverse("visual_search:photo_search", args=["testshop", "product"])
    page = client.post(address, {"image": picture_file(3)}).content.decode()
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    lists = page.split("<h2")[1:]
    assert headings == (["This one", "Similar"] if level == -4 else ["Most like your photo"])
    assert [part.count("<li data-visual-search-hit") for part in lists] == ([1, COUNT - 1] if level == -4 else [COUNT])
    assert all("data-visual-search-token" in part for part in lists)


class TestAPI:
    @pytest.fixture
    def post(self, field):
        address = reverse("visual_search:search-by-image", args=["testshop", "product"])
        return partial(APIClient().post, address, format="multipart")

    def test_confidence_and_notice(self, field, post):
        serve(field, calibration=calibration())
        answer = post({"image": picture_file(0), "limit": 3}).json()
        assert answer["results"][0]["confidence"] == 1.0
        assert answer["results"][0]["same_product"] is None
        assert answer["notice"] is None
        few = post({"image": picture_file(0), "min_confidence": "0.999"}).json()
        assert [hit["rank"] for hit in few["results"]] == [1]
        assert few["notice"] is None

    def test_each_hit_says_how_likely_it_is_the_very_product(self, field, post):
        serve(field, calibration=identifying())
        probabilities = [hit["same_product"] for hit in post({"image": picture_file(0), "limit": 3}).json()["results"]]
        assert probabilities[0] > 0.5 > max(probabilities[1:])
        page = post({"image": picture_file(0), "limit": 1}).json()
        for _ in range(2):
            page = APIClient().get(page["next"]).json()
            assert page["results"][0]["same_product"] < 0.5, "compared with the products of the pages before"

    def test_an_irrelevant_photo_gets_an_empty_answer_that_says_so(self, field, post):
        serve(field, calibration=Calibration("isotonic", ConfidenceCurve((0.0, 1.0), (0.0, 0.3), 100)).as_json())
        answer = post({"image": picture_file(0), "min_confidence": "0.5"}).json()
        assert answer["results"] == []
        assert answer["notice"] == {
            "code": "nothing_close_enough",
            "detail": "Nothing here looks enough like the query.",
        }

    def test_never_learned(self, field, post):
        embed_all()
        answer = post({"image": picture_file(0), "min_confidence": "0.5"})
        assert answer.status_code == 400
        assert answer.json() == {"min_confidence": ["Confidence has not been learned here."]}

    @pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "x", "1e400"])
    def test_values_out_of_range(self, field, post, value):
        answer = post({"image": picture_file(0), "min_confidence": value})
        assert answer.status_code == 400
        assert "min_confidence" in json.dumps(answer.json())


def test_pages_of_the_shop_use_the_setting(field, settings):
    serve(field, calibration=Calibration("isotonic", ConfidenceCurve((0.0, 1.0), (0.0, 0.3), 100)).as_json())
    assert len(search_by_photo(picture(0), "testshop.Product")) == COUNT
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "MIN_CONFIDENCE": 0.5}
    assert search_by_photo(picture(0), "testshop.Product").nothing_close


def test_ways_out_where_nothing_is_close(field, settings, client):
    serve(field, calibration=Calibration("isotonic", ConfidenceCurve((0.0, 1.0), (0.0, 0.3), 100)).as_json())
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "MIN_CONFIDENCE": 0.5,
        "VISIBLE": {"testshop.Product": "all"},
        "STOREFRONT": {"testshop.Product": {"FACETS": ["is_published"]}},
    }
    found = client.post("/visual-search/photo/testshop/product/", {"image": picture_file(0)}).context["found"]
    assert (len(found.results), found.results.nothing_close) == (0, True)
    assert len(client.get(found.anything_url).context["results"]) == COUNT
    (published,) = found.nearest
    assert (published.name, published.count) == ("True", COUNT)
    assert len(client.get(published.url).context["results"]) == COUNT


def test_what_is_less_similar_is_a_click_away(field, settings, client):
    serve(field, calibration=Calibration("isotonic", ConfidenceCurve((0.0, 1.0), (0.0, 1.0), 100)).as_json())
    settings.VISUAL_SEARCH = {
        **settings.VISUAL_SEARCH,
        "MIN_CONFIDENCE": 0.99,
        "VISIBLE": {"testshop.Product": "all"},
    }
    page = client.post("/visual-search/photo/testshop/product/", {"image": picture_file(0)})
    found = page.context["found"]
    assert 0 < len(found.results) < COUNT
    assert "Show less similar ones" in page.content.decode()
    page = client.get(found.less_similar_url)
    assert len(page.context["results"]) == COUNT
    assert "Show less similar ones" not in page.content.decode()
