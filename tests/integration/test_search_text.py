"""Searches by text: by a text head, by full text, by both, and beside a picture."""

import io

import numpy as np
import pytest
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from django_visual_search import search, storefront
from django_visual_search.checks.products import check_text_fields, check_text_head, check_text_language
from django_visual_search.extractors import Extractor
from django_visual_search.fields.registry import get_field
from django_visual_search.models import SearchLog, TextHead
from django_visual_search.search.fulltext import full_text_matches, text_path_fault
from django_visual_search.spaces.text import forget_text_heads

from ..shop_api import ids
from ..testshop.extractors import ColourExtractor
from ..testshop.models import Article, Category, Product, Tag
from ..texts import COLOURS, FIELDS, LABEL, fill_shop, look

pytestmark = pytest.mark.django_db
OTHER = {"default": {"BACKEND": "tests.testshop.extractors.ColourExtractor", "OPTIONS": {"version": 2}}}


def configure(settings, **values):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **values}


def train(**options):
    output = io.StringIO()
    call_command("train_embedding", LABEL, text=True, stdout=output, stderr=output, **options)
    return output.getvalue()


def names(results):
    return [hit.product.name for hit in results]


def by_text(text, **options):
    return search.search_by_text(text, LABEL, **options)


@pytest.fixture
def shop():
    return fill_shop()


@pytest.fixture(scope="module")
def kept():
    """Keep the row of the text head, which is the same for every test."""
    return {}


@pytest.fixture
def learned(shop, kept):
    if not kept:
        train()
        kept.update(TextHead.objects.values().get())
    else:
        TextHead.objects.create(**kept)
    return shop


class TestTextHead:
    def test_what_the_command_says_and_keeps(self, shop):
        said = train()
        assert f"{LABEL}: 24 vectors of colour-" in said
        assert "texts from name, category__name" in said
        assert "unseen products find their own picture among 24" in said
        head = TextHead.objects.get()
        assert head.metrics["queries"] == 5
        assert head.summary["source"] == "name, category__name"
        assert Product.objects.filter(embedding_key__startswith=f"{head.space_key}:").count() == 24
        train()
        assert TextHead.objects.get().pk > head.pk  # in place of the first

    def test_a_dry_run_keeps_nothing(self, shop):
        assert "Dry run" in train(dry_run=True)
        assert not TextHead.objects.exists()

    def test_nothing_to_learn_from(self):
        with pytest.raises(CommandError, match="reindex_embeddings"):
            train()

    def test_names_find_their_pictures(self, learned):
        for name in learned:
            results = by_text(name, limit=3)
            assert name in names(results)
            assert len(results) == 3
            assert results[0].reasons == ("visual",)
            assert results[0].confidence is None
            assert 0 < results[0].similarity <= 1
        assert results.ranking.query_kind == "words"
        # Little more than chance decides between two colours where 24 products teach them.
        assert "blue mug" in names(by_text("mugs in blue", limit=2))

    def test_a_text_of_unknown_words_finds_nothing(self, learned):
        results = by_text("zzyzx")
        assert list(results) == []
        assert not results.nothing_close

    def test_bounds(self, learned):
        assert 0 < len(by_text("red mug", min_similarity=0.5)) < 12
        assert {
            hit.product.category.name for hit in by_text("red mug", within=Product.objects.filter(name="red chair"))
        } == {"chairs"}

    def test_it_is_never_used_in_another_space(self, learned, settings, caplog):
        configure(settings, EXTRACTORS=OTHER)
        with pytest.raises(search.TextUnavailable, match="learned for another vector space than the one that serves"):
            by_text("red mug")
        assert [message.id for message in check_text_head(get_field(LABEL), "default")] == ["visual_search.W013"]
        configure(settings, **FIELDS)  # full text goes on, over vectors of whatever space serves
        Product.objects.update(
            embedding_key=models.functions.Replace("embedding_key", *map(models.Value, keys_of_both()))
        )
        results = by_text("red mug")
        assert names(results) == ["red mug"]
        assert results[0].reasons == ("visual", "text")

    def test_a_damaged_head_is_reported_and_left_out(self, learned, settings, caplog):
        TextHead.objects.update(data=b"damaged")
        forget_text_heads()
        with pytest.raises(search.TextUnavailable):
            by_text("red mug")
        assert "Learn it again" in caplog.text
        configure(settings, **FIELDS)
        assert names(by_text("red mug")) == ["red mug"]

    def test_messages_and_queries(self, learned, settings):
        configure(settings, **FIELDS)
        by_text("red mug")
        with CaptureQueriesContext(connection) as queries:
            by_text("blue mug")
        assert len(queries) <= 6


def keys_of_both():
    options = {"dimensions": 48}
    return [f"{ColourExtractor(version=version, **options).spec.key}:" for version in (1, 2)]


class TestFullText:
    @pytest.fixture(autouse=True)
    def fields(self, settings):
        configure(settings, **FIELDS)

    def test_only_products_whose_text_matches(self, shop):
        results = by_text("blue mug")
        assert names(results) == ["blue mug"]
        assert results[0].reasons == ("visual", "text")
        assert set(names(by_text("mugs"))) == {f"{colour} mug" for colour in COLOURS}  # stemmed, and by category

    def test_any_word_where_no_product_has_all(self, shop):
        found = names(by_text("purple blue mug", limit=24))
        assert found[0] == "blue mug"
        assert set(found) == {name for name in shop if "blue" in name or "mug" in name}

    def test_nothing_matches(self, shop):
        assert names(by_text("zzyzx")) == []

    def test_as_on_the_web(self, shop):
        assert set(names(by_text("mug -blue"))) == {f"{colour} mug" for colour in COLOURS if colour != "blue"}
        assert names(by_text('"mug blue"', limit=24))  # no product has the phrase, some have the words

    @pytest.mark.parametrize("text", ['"', "'", "' \\", "%", "_", "&|!():*<->", "a & b | !", "a\\", "-", "0" * 200])
    def test_any_text_is_a_text(self, shop, text):
        by_text(text)
        search.similar_to(shop["red mug"], text=text)

    def test_chinese_matches_by_pairs_of_letters(self, shop):
        product = shop["red mug"]
        Product.objects.filter(pk=product.pk).update(name="红色跑步鞋")
        Product.objects.filter(pk=shop["blue mug"].pk).update(name="蓝色跑步鞋 Nike")
        assert set(names(by_text("跑步鞋"))) == {"红色跑步鞋", "蓝色跑步鞋 Nike"}
        assert names(by_text("红色的跑步鞋"))[0] == "红色跑步鞋"
        assert names(by_text("nike 跑步鞋")) == ["蓝色跑步鞋 Nike"]

    def test_within(self, shop):
        some = Product.objects.filter(name__startswith="blue")
        assert names(by_text("mug", within=some)) == ["blue mug"]
        assert names(by_text("mug", within=some.order_by("pk")[:1])) == ["blue mug"]
        assert names(by_text("mug", within=some.none())) == []
        both = some.union(Product.objects.filter(name__startswith="red"))
        assert set(names(by_text("mug", within=both))) == {"blue mug", "red mug"}
        assert names(by_text("mug", within=both.order_by("name")[:4])) == ["blue mug"]

    def test_a_product_without_a_vector_is_not_found(self, shop):
        Product.objects.filter(name="blue mug").update(embedding=None)
        assert names(by_text("blue mug")) == []

    def test_equal_matches_share_a_rank(self, shop):
        ranks = full_text_matches(get_field(LABEL), "mug", Product.objects.all(), 10)
        assert list(ranks.values()) == [1, 1, 1, 1]

    def test_an_index_by_the_shops_migration_is_used(self, shop, settings):
        configure(settings, TEXT_FIELDS={"testshop.Product": ["name"]})
        index = GinIndex(SearchVector("name", config="english"), name="product_text")
        connection.check_constraints()
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with connection.schema_editor() as editor:
            editor.add_index(Product, index)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            with CaptureQueriesContext(connection) as queries:
                full_text_matches(get_field(LABEL), "blue mug", Product.objects.all(), 10)
            cursor.execute(f"EXPLAIN {queries[0]['sql']}")
            assert "product_text" in str(cursor.fetchall())

    def test_what_no_path_may_lead_to(self):
        assert text_path_fault(Product, "nmae") == "testshop.Product has no field 'nmae'"
        assert "it leads to testshop.Category" in text_path_fault(Product, "category")
        assert "several rows" in text_path_fault(Product, "tags__name")
        assert text_path_fault(Product, "price") == "it is not a text"
        assert text_path_fault(Product, "category__name") is None
        assert text_path_fault(Article, "title") is None


class TestBoth:
    def test_products_whose_text_matches_come_first(self, learned, settings):
        configure(settings, **FIELDS)
        results = by_text("blue mug", limit=10)
        assert results[0].product.name == "blue mug"
        assert results[0].reasons == ("visual", "text")
        assert len(results) == 10  # and then what looks like it
        assert [hit.rank for hit in results] == list(range(1, 11))

    def test_beside_a_picture(self, learned, settings):
        for fields in ({"TEXT_WEIGHT": 1}, {"TEXT_WEIGHT": 0.5, **FIELDS}):
            configure(settings, **fields)
            found = 0
            for name, product in learned.items():
                colour, kind = name.split()
                other = "green" if colour != "green" else "black"
                photo = search.search_by_image(look(kind, colour, 99), LABEL, text=other, limit=3)
                assert photo.ranking.query_kind == "text"
                assert photo.extractor_key == Product.objects.get(pk=product.pk).embedding_key.split(":")[0]
                like = search.similar_to(product, text=other, limit=3)
                assert like.ranking.query_id == str(product.pk)
                assert product not in [hit.product for hit in like]
                found += (names(like)[0] == f"{other} {kind}") + (names(photo)[0] == f"{other} {kind}")
            assert found >= (0.9 if "TEXT_FIELDS" in fields else 0.5) * 2 * len(learned)

    def test_without_a_text_head_the_words_still_choose(self, shop, settings):
        configure(settings, **FIELDS)
        results = search.similar_to(shop["red mug"], text="blue", limit=24)
        assert names(results)[0] == "blue mug"
        assert {"text" in hit.reasons for hit in results[:6]} == {True}
        assert len(results) == 23

    def test_weight_zero_leaves_the_query(self, learned, settings):
        configure(settings, TEXT_WEIGHT=0)
        product = learned["red mug"]
        assert names(search.similar_to(product, text="blue")) == names(search.similar_to(product))

    def test_unknown_words_beside_a_picture_change_nothing(self, learned):
        product = learned["red mug"]
        assert names(search.similar_to(product, text="zzyzx")) == names(search.similar_to(product))

    def test_confidence_says_nothing_of_words(self, learned):
        with pytest.raises(ValueError, match="leave out min_confidence"):
            search.similar_to(learned["red mug"], text="blue", min_confidence=0.5)


class TestBadTexts:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "empty"),
            ("  \n", "empty"),
            ("x" * 201, "200"),
            ("a\0b", "NUL"),
            ("\ud800", "surrogate"),
            (None, "str"),
            (b"a", "str"),
        ],
    )
    def test_refused(self, learned, text, why):
        with pytest.raises(ValueError, match=why):
            by_text(text)
        if text is not None:
            with pytest.raises(ValueError, match=why):
                search.similar_to(learned["red mug"], text=text)

    def test_nothing_understands_texts(self, shop):
        for ask in (
            lambda: by_text("red mug"),
            lambda: search.similar_to(shop["red mug"], text="blue"),
            lambda: search.search_by_image(look("mug", "red"), LABEL, text="blue"),
        ):
            with pytest.raises(search.TextUnavailable, match=rf"train_embedding {LABEL} --text.*TEXT_FIELDS"):
                ask()


class TextTower(ColourExtractor):
    """An extractor with a text tower, which knows a few colours."""

    has_text_tower = True

    def embed_text(self, texts):
        colours = [COLOURS[text.split()[0]] for text in texts]
        return self(np.array(colours, np.uint8)[:, None, None].repeat(32, 1).repeat(32, 2))


def test_an_extractors_own_text_tower(shop, settings):
    configure(settings, EXTRACTORS={"default": {"BACKEND": f"{__name__}.TextTower"}})
    assert {name.split()[0] for name in names(by_text("green", limit=3))} == {"green"}
    train()  # what the shop learned goes before it
    assert names(by_text("mug, green", limit=1)) == ["green mug"]
    with pytest.raises(NotImplementedError):
        Extractor.embed_text(ColourExtractor(), ["x"])


class TestAPI:
    PATH = "/api/products/search-by-text/"

    def test_pages(self, client, learned, settings):
        configure(settings, **FIELDS)
        first = client.get(self.PATH, {"text": "blue mug", "limit": 7}).json()
        assert len(first["results"]) == 7
        assert first["results"][0]["product"]["name"] == "blue mug"
        assert first["results"][0]["reasons"] == ["visual", "text"]
        assert "text=" not in first["next"]
        second = client.get(first["next"])
        assert second.status_code == 200
        assert not set(ids(second)) & {hit["id"] for hit in first["results"]}

    def test_it_is_logged_as_a_search_by_text(self, client, learned):
        client.get(self.PATH, {"text": "red mug"})
        log = SearchLog.objects.get()
        assert log.kind == "words"
        assert log.results > 0

    def test_filters_and_visibility(self, client, learned, settings):
        configure(settings, **FIELDS)
        Product.objects.filter(name="blue mug").update(is_published=False)
        everything = client.get(self.PATH, {"text": "blue mug", "limit": 50}).json()["results"]
        assert "blue mug" not in [hit["product"]["name"] for hit in everything]
        mugs = Category.objects.get(name="mugs")
        found = client.get(self.PATH, {"text": "red", "limit": 50, "category": mugs.pk}).json()["results"]
        assert {hit["product"]["category"]["id"] for hit in found} == {mugs.pk}

    def test_a_product_or_a_photo_with_words(self, client, learned, settings):
        configure(settings, **FIELDS)
        product = learned["red mug"]
        answer = client.get(f"/api/products/{product.pk}/similar/", {"text": "blue", "limit": 4})
        assert answer.json()["results"][0]["product"]["name"] == "blue mug"
        rest = client.get(answer.json()["next"])
        assert rest.status_code == 200
        assert len(ids(rest)) == 4
        photo = io.BytesIO(look("lamp", "red", 5))
        photo.name = "lamp.jpg"
        answer = client.post("/api/products/search-by-image/", {"image": photo, "text": "green"})
        assert answer.json()["results"][0]["product"]["name"] == "green lamp"
        assert client.get(answer.json()["next"]).status_code == 200
        assert SearchLog.objects.filter(kind="text").count() == 2

    def test_over_visible_without_an_api(self, client, learned):
        answer = client.get("/visual-search/testshop/product/search-by-text/", {"text": "green lamp"})
        assert answer.status_code == 200
        assert ids(answer)
        assert client.get("/visual-search/testshop/nothing/search-by-text/", {"text": "x"}).status_code == 404

    @pytest.mark.parametrize(
        ("given", "where"),
        [
            ({}, "text"),
            ({"text": ""}, "text"),
            ({"text": "   "}, "text"),
            ({"text": "x" * 201}, "text"),
            ({"text": "a\0b"}, "text"),
            ({"text": "a", "limit": "x"}, "limit"),
            ({"text": "a", "min_confidence": "0.5"}, "min_confidence"),
            ({"text": "a", "txet": "b"}, "txet"),
        ],
    )
    def test_bad_requests(self, client, learned, given, where):
        answer = client.get(self.PATH, given)
        assert answer.status_code == 400
        assert list(answer.json()) == [where]

    def test_not_set_up(self, client, shop, caplog):
        answer = client.get(self.PATH, {"text": "red mug"})
        assert answer.status_code == 400
        assert answer.json() == {"text": ["Search by text has not been set up here."]}
        assert "train_embedding" in caplog.text  # for those who run the shop
        answer = client.get(f"/api/products/{shop['red mug'].pk}/similar/", {"text": "mug", "limit": 50})
        assert {hit["product"]["name"] for hit in answer.json()["results"]} == {"blue mug", "green mug", "black mug"}

    def test_no_confidence_with_words(self, client, learned):
        path = f"/api/products/{learned['red mug'].pk}/similar/"
        assert client.get(path, {"text": "blue", "min_confidence": 0.5}).json().keys() == {"min_confidence"}

    def test_a_cursor_of_another_search(self, client, learned):
        following = client.get(f"/api/products/{learned['red mug'].pk}/similar/", {"limit": 2}).json()["next"]
        answer = client.get(self.PATH, {"cursor": following.split("cursor=")[1]})
        assert answer.status_code == 400

    def test_throttled(self, client, learned, settings):
        cache.clear()
        configure(settings, THROTTLE_RATES={"text": "2/min"})
        codes = [client.get(self.PATH, {"text": "red"}).status_code for _ in range(3)]
        assert codes == [200, 200, 429]


def test_a_filter_of_the_shops_own_that_reads_text_keeps_it(client, learned, monkeypatch):
    from ..testshop.api import ProductViewSet

    monkeypatch.setattr(ProductViewSet, "visual_search_parameters", ["text"])
    product = learned["red mug"]
    path = f"/api/products/{product.pk}/similar/"
    assert ids(client.get(path, {"text": "blue"})) == ids(client.get(path))


def test_storefront(learned, settings, rf):
    configure(settings, **FIELDS)
    Product.objects.filter(name="blue mug").update(is_published=False)
    request = rf.get("/")
    assert "blue mug" not in names(storefront.search_by_words("blue mug", LABEL, request))
    found = storefront.search_by_photo(look("mug", "red", 3), LABEL, request, text="green")
    assert names(found)[0] == "green mug"


class TestChecks:
    def test_fields(self, settings):
        configure(settings, TEXT_FIELDS={"testshop.Product": ["name", "nmae"], "shop.Nothing": ["name"]})
        second, first = check_text_fields()
        assert first.id == second.id == "visual_search.W011"
        assert "testshop.Product has no field 'nmae'" in first.msg
        assert "'shop.Nothing', which is not an installed model" in second.msg
        configure(settings, **FIELDS)
        assert check_text_fields() == []

    def test_language(self, settings):
        configure(settings, **FIELDS)
        field = get_field(LABEL)
        assert check_text_language(field, "default") == []
        configure(settings, TEXT_LANGUAGE="elvish")
        [message] = check_text_language(field, "default")
        assert message.id == "visual_search.W012"
        assert "english" in message.hint

    def test_a_text_head_that_fits_is_no_matter(self, learned):
        assert check_text_head(get_field(LABEL), "default") == []


def test_tags_are_not_read(settings, shop):
    configure(settings, TEXT_FIELDS={"testshop.Product": ["tags__name"]})
    shop["red mug"].tags.add(Tag.objects.create(name="handmade"))
    with pytest.raises(search.TextUnavailable):
        by_text("handmade")
