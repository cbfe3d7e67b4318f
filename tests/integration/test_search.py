"""Searches by product and by photo: hits equal brute force, filters hold, queries are counted, rankings are paged."""

import io

import numpy as np
import pytest
from django.core import signing
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext
from PIL import Image

from django_visual_search import images, search
from django_visual_search.checks.extractors import check_runtime_and_store
from django_visual_search.decoding.photos import decode_photo
from django_visual_search.extractors import ExtractorUnavailable, keras
from django_visual_search.fields.registry import get_field
from django_visual_search.search import query
from django_visual_search.search.results import read_token
from django_visual_search.spaces import live
from django_visual_search.spaces.extractors import DatabaseStore, extractor_of

from ..conftest import embed_all, picture, picture_file
from ..testshop.models import (
    Article,
    ArticleImage,
    ArticleImageEmbedding,
    Category,
    FeaturedProduct,
    LongStory,
    Poster,
    Product,
    PublishedProduct,
    Shoe,
    Spare,
    Story,
    StoryImage,
    Tag,
)

pytestmark = pytest.mark.django_db


def vector_of(data: bytes, label="testshop.Product"):
    extractor = extractor_of(get_field(label))
    image = images.load(data, options=extractor.spec.images, size=extractor.spec.input_size)
    return extractor(np.asarray(image)[None])[0]


@pytest.fixture
def shop():
    """Thirty products in three categories, each with a vector."""
    categories = [Category.objects.create(name=f"c{i}") for i in range(3)]
    products = [
        Product.objects.create(name=f"p{i}", category=categories[i % 3], image=picture_file(i)) for i in range(30)
    ]
    assert embed_all().done == 30
    return products


@pytest.fixture
def articles():
    """Twelve articles of a third party with one to four pictures each."""
    made = []
    for i in range(12):
        article = Article.objects.create(title=f"a{i}")
        for j in range(1 + i % 4):
            ArticleImage.objects.create(article=article, original=picture_file(100 * i + j), display_order=j)
        made.append(article)
    embed_all("testshop.ArticleImageEmbedding.embedding")
    return made


class TestSearchByImage:
    def test_finds_the_product_of_the_photo(self, shop):
        results = search.search_by_image(picture(7), "testshop.Product.embedding", limit=5)
        assert results[0].product == shop[7]
        assert results[0].similarity == pytest.approx(1, abs=1e-3)
        assert [hit.rank for hit in results] == [1, 2, 3, 4, 5]
        assert results.exact
        assert results.extractor_key == extractor_of(get_field("testshop.Product")).spec.key
        assert results[0].row is results[0].product

    def test_equals_brute_force_in_numpy(self, shop):
        stored = {p.pk: np.float32(p.embedding) for p in Product.objects.all()}
        query = vector_of(picture(999))
        wanted = sorted(stored, key=lambda pk: -(stored[pk] @ query / np.linalg.norm(stored[pk])))
        results = search.search_by_image(io.BytesIO(picture(999)), "testshop.Product", limit=30)
        assert [hit.product.pk for hit in results] == wanted
        for hit in results:
            cosine = stored[hit.product.pk] @ query / np.linalg.norm(stored[hit.product.pk])
            assert hit.similarity == pytest.approx(cosine, abs=2e-3)

    def test_crop_searches_by_a_part(self, shop):
        part, other = (Image.open(io.BytesIO(picture(seed))) for seed in (4, 5))
        both = Image.new("RGB", (128, 64))
        both.paste(part, (0, 0))
        both.paste(other, (64, 0))
        file = io.BytesIO()
        both.save(file, "PNG")
        found = [
            search.search_by_image(file.getvalue(), "testshop.Product", limit=1, crop=crop)[0].product
            for crop in ((0, 0, 0.5, 1), (0.5, 0, 1, 1))
        ]
        assert found == [shop[4], shop[5]]

    def test_refuses_what_is_no_photo(self, shop):
        with pytest.raises(images.ImageRefused) as refused:
            search.search_by_image(b"<svg/>", "testshop.Product")
        assert refused.value.code == "format"

    @pytest.mark.parametrize("limit", [0, -1, 10**9, 1.5, "7", True, None])
    def test_refuses_a_bad_limit(self, limit):
        with pytest.raises(ValueError, match="limit must be a whole number from 1 to 1000"):
            search.search_by_image(picture(), "testshop.Product", limit=limit)

    def test_unknown_label_names_the_known_ones(self):
        with pytest.raises(LookupError, match=r"testshop\.Product\.embedding"):
            search.search_by_image(picture(), "testshop.Nothing")

    def test_an_empty_shop_answers_nothing(self):
        results = search.search_by_image(picture(), "testshop.Product")
        assert list(results) == []
        assert results.exact


class TestSimilarTo:
    def test_never_finds_itself(self, shop):
        results = search.similar_to(shop[3], limit=1000)
        assert {hit.product for hit in results} == set(shop) - {shop[3]}
        similarities = [hit.similarity for hit in results]
        assert similarities == sorted(similarities, reverse=True)

    def test_a_product_without_a_vector_has_no_similar_ones(self, shop):
        assert not search.similar_to(Product.objects.create(name="new"))

    def test_an_instance_older_than_its_vector(self, shop):
        assert shop[0].embedding is None, "created before the worker wrote"
        assert len(search.similar_to(shop[0])) == 12

    def test_proxies_and_children(self, shop):
        proxy = FeaturedProduct.objects.get(pk=shop[0].pk)
        assert len(search.similar_to(proxy, limit=5, within=FeaturedProduct.objects.all())) == 5
        for i in range(4):
            Shoe.objects.create(name=f"s{i}", image=picture_file(i))
        embed_all("testshop.Shoe.embedding")
        shoe = Shoe.objects.order_by("pk")[0]
        assert {hit.product.name for hit in search.similar_to(shoe)} == {"s1", "s2", "s3"}
        assert {hit.product.name for hit in search.similar_to(shoe, within=Shoe.objects.filter(size=42))} == {
            "s1",
            "s2",
            "s3",
        }

    def test_other_primary_keys_and_metrics(self):
        for seed in range(6):
            Poster.objects.create(image=picture_file(seed))
            Spare.objects.create(sku=f"s/{seed}", image=picture_file(seed))
        embed_all("testshop.Poster.embedding", "testshop.Spare.embedding")
        for model, label in ((Poster, "testshop.Poster"), (Spare, "testshop.Spare")):
            stored = {row.pk: np.float32(row.embedding) for row in model.objects.all()}
            query = vector_of(picture(2), label)
            results = search.search_by_image(picture(2), label)
            for hit in results:
                vector = stored[hit.product.pk]
                score = 1 / (1 + np.linalg.norm(vector - query)) if model is Poster else vector @ query
                assert hit.similarity == pytest.approx(score, abs=2e-2)
            assert [hit.rank for hit in results] == list(range(1, 7))
            assert len(search.similar_to(results[0].product)) == 5


class TestWithin:
    def test_filters_of_every_kind(self, shop):
        category = shop[0].category
        tag = Tag.objects.create(name="t")
        for product in shop[:6]:
            product.tags.add(tag, Tag.objects.create(name="u"))
        everything = Product.objects.all()
        cases = {
            "plain": everything.filter(name__in=["p1", "p2", "p3"]),
            "foreign key": everything.filter(category__name=category.name),
            "many to many": everything.filter(tags__name__in=["t", "u"]),
            "distinct": everything.filter(tags__name__in=["t", "u"]).distinct(),
            "sliced": everything.order_by("-pk")[2:9],
            "annotated": everything.annotate(n=Count("tags")).filter(n__gt=1),
            "union": everything.filter(name="p1").union(everything.filter(name="p2")),
            "excluded": everything.exclude(category=category),
            "ordered": everything.order_by("name").filter(pk__gt=shop[9].pk),
            "none": everything.none(),
            "a manager": Product.objects,
            "deferred": everything.only("name"),
        }
        for name, queryset in cases.items():
            wanted = {product.pk for product in queryset.all()}
            results = search.search_by_image(picture(50), "testshop.Product", limit=100, within=queryset)
            assert [hit.product.pk for hit in results].count(shop[1].pk) <= 1, name
            assert {hit.product.pk for hit in results} == wanted, name
            assert len(results) == len(wanted), name

    @pytest.mark.parametrize("within", [[], "x", Category.objects.all(), Product.objects.values("pk")])
    def test_what_is_no_queryset_of_products_is_refused(self, shop, within):
        with pytest.raises(ValueError, match="'within'"):
            search.search_by_image(picture(), "testshop.Product", within=within)

    @pytest.mark.django_db(transaction=True)  # in a transaction that has written, nothing is remembered
    def test_at_most_three_queries_whatever_the_limit(self, shop, articles, django_assert_max_num_queries):
        within = Product.objects.select_related("category").filter(price=0)
        for limit in (1, 20):
            with django_assert_max_num_queries(3):
                for hit in search.similar_to(shop[0], limit=limit, within=within):
                    assert hit.product.category.name
        articles_within = Article.objects.select_related("category").filter(is_public=True)
        for limit in (1, 10):
            with django_assert_max_num_queries(3):
                for hit in search.search_by_image(picture(3), "testshop.Article", limit=limit, within=articles_within):
                    assert hit.product.title
                    assert hit.row.image.original.name
                    assert hit.row.embedding_key
            with django_assert_max_num_queries(3):
                assert len(search.similar_to(articles[5], limit=limit)) == limit

    @pytest.mark.django_db(transaction=True)  # in a transaction that has written, nothing is remembered
    def test_prefetch_is_honoured(self, shop):
        shop[1].tags.add(Tag.objects.create(name="t"))
        with CaptureQueriesContext(connection) as queries:
            results = search.search_by_image(
                picture(1), "testshop.Product", within=Product.objects.prefetch_related("tags")
            )
            assert [tag.name for tag in results[0].product.tags.all()] == ["t"]
        assert len(queries) <= 4

    def test_min_similarity(self, shop):
        everything = search.search_by_image(picture(2), "testshop.Product", limit=30)
        bound = everything[4].similarity
        some = search.search_by_image(picture(2), "testshop.Product", limit=30, min_similarity=bound)
        assert [hit.product for hit in some] == [hit.product for hit in everything if hit.similarity >= bound]


class TestSeveralPictures:
    def test_each_product_once_with_its_best_picture(self, articles):
        wanted = ArticleImage.objects.get(article=articles[7], display_order=2)
        results = search.search_by_image(picture(702), "testshop.Article", limit=12)
        assert results[0].product == articles[7]
        assert results[0].row.image == wanted
        assert isinstance(results[0].row, ArticleImageEmbedding)
        assert {hit.product for hit in results} == set(articles)
        assert len(results) == 12

    def test_similar_to_a_product_and_to_one_of_its_pictures(self, articles):
        first = ArticleImageEmbedding.objects.filter(image__article=articles[7]).order_by("pk")[0]
        by_product = search.similar_to(articles[7], limit=11)
        by_row = search.similar_to(first, limit=11)
        assert [hit.product for hit in by_product] == [hit.product for hit in by_row]
        assert articles[7] not in [hit.product for hit in by_product]


class TestUnusualRelations:
    @pytest.fixture
    def stories(self):
        made = [Story.objects.create(code=f"s{i}") for i in range(5)]
        LongStory.objects.create(story_ptr=made[2], code="s2")
        for i, story in enumerate(made):
            for j in range(2):
                StoryImage.objects.create(story=story, original=picture_file(10 * i + j))
        for seed in (1, 2, 3):
            StoryImage.objects.create(story=None, original=picture_file(seed))
        embed_all("testshop.StoryImageEmbedding.embedding")
        return made

    def test_a_product_referred_to_by_another_column(self, stories):
        for within in (None, Story.objects.filter(code__startswith="s")):
            results = search.search_by_image(picture(21), "testshop.Story", within=within)
            assert results[0].product == stories[2]
            assert {hit.product for hit in search.similar_to(stories[2], within=within)} == set(stories) - {stories[2]}

    def test_pictures_of_no_product_take_no_place(self, stories):
        assert len(search.search_by_image(picture(1), "testshop.Story", limit=5)) == 5

    def test_querysets_that_narrow_without_a_condition(self, stories):
        results = search.search_by_image(picture(1), "testshop.Story", limit=1, within=LongStory.objects.all())
        assert [hit.product.pk for hit in results] == [stories[2].pk]
        one_each = Story.objects.order_by("code", "pk").distinct("code")
        assert len(search.search_by_image(picture(1), "testshop.Story", within=one_each)) == 5

    def test_distinct_on_keeps_its_choice(self, shop):
        first = Product.objects.order_by("category", "-pk").distinct("category")
        results = search.search_by_image(picture(1), "testshop.Product", within=first)
        assert {hit.product.pk for hit in results} == {product.pk for product in first}
        assert len(results) == 3

    def test_a_companion_row_costs_three_queries_too(self, articles, django_assert_max_num_queries):
        row = ArticleImageEmbedding.objects.get(image__article=articles[0])
        row = ArticleImageEmbedding.objects.get(pk=row.pk)
        with django_assert_max_num_queries(3):
            assert len(search.similar_to(row, limit=11)) == 11

    def test_a_proxys_manager_decides(self, shop):
        Product.objects.filter(pk__in=[product.pk for product in shop[:10]]).update(is_published=False)
        results = search.search_by_image(picture(0), "testshop.PublishedProduct", limit=100)
        assert {hit.product.pk for hit in results} == {product.pk for product in shop[10:]}
        proxy = PublishedProduct.objects.get(pk=shop[12].pk)
        assert len(search.similar_to(proxy, limit=100)) == 19


class TestVectorSpaces:
    def test_rows_of_another_extractor_are_not_met(self, shop):
        old = Product.objects.filter(pk__in=[product.pk for product in shop[:10]])
        for product in old:
            key = "other:" + product.embedding_key.partition(":")[2]
            Product.objects.filter(pk=product.pk).update(embedding_key=key)
        by_photo = search.search_by_image(picture(0), "testshop.Product", limit=100)
        assert {hit.product for hit in by_photo} == set(shop[10:])
        by_product = search.similar_to(Product.objects.get(pk=shop[0].pk), limit=100)
        assert {hit.product for hit in by_product} == set(shop[1:10])
        assert by_product.extractor_key == "other"


class TestToken:
    def test_says_what_was_shown(self, shop):
        results = search.similar_to(shop[0], limit=4)
        ranking = read_token(results.token)
        assert (ranking.label, ranking.extractor_key) == ("testshop.Product.embedding", results.extractor_key)
        assert (ranking.query_kind, ranking.query_id) == ("product", str(shop[0].pk))
        assert [place.product_pk for place in ranking.places] == [str(hit.product.pk) for hit in results]
        assert [place.similarity for place in ranking.places] == pytest.approx(
            [h.similarity for h in results], abs=1e-4
        )
        assert (ranking.shown, ranking.more, ranking.exact) == (4, False, True)

    def test_a_ranking_is_continued(self, shop):
        """Though a nearer product was added, one was hidden and one is gone: no hit twice, none lost."""
        whole = search.similar_to(shop[0], limit=100)
        first = search.similar_to(shop[0], limit=5, depth=100)
        assert first.ranking.more
        hidden, gone = whole[7].product, whole[11].product
        Product.objects.filter(pk=gone.pk).delete()
        Product.objects.create(name="new", image=picture_file(0))
        embed_all()
        pages, token = [list(first)], first.token
        while True:
            page = search.next_page(read_token(token), limit=5, within=Product.objects.exclude(pk=hidden.pk))
            pages.append(list(page))
            if not page.ranking.more:
                break
            token = page.token
        shown = [hit for page in pages for hit in page]
        assert all(len(page) == 5 for page in pages[:-1])
        assert [hit.product for hit in shown] == [h.product for h in whole if h.product not in (hidden, gone)]
        ranks = {hit.product.pk: hit.rank for hit in whole}
        assert all(hit.rank == ranks[hit.product.pk] for hit in shown)

    def test_can_not_be_forged_and_ends(self, shop):
        token = search.similar_to(shop[0], limit=4).token
        with pytest.raises(signing.BadSignature):
            read_token(token[:-1] + ("A" if token[-1] != "A" else "B"))
        with pytest.raises(signing.SignatureExpired):
            read_token(token, max_age=-1)


class TestNotExportedYet:
    """An export takes minutes: only commands and workers make one."""

    @pytest.fixture(autouse=True)
    def _keras(self, settings, tmp_path, monkeypatch):
        options = {"application": "MobileNetV3Small", "weights": None, "input_size": 32}
        backend = {"BACKEND": "django_visual_search.extractors.keras.KerasExtractor", "OPTIONS": options}
        settings.VISUAL_SEARCH = {"EXTRACTORS": {"default": backend}, "CACHE_DIR": tmp_path}
        monkeypatch.setattr(keras.export, "export", lambda recipe: pytest.fail("a search exports"))

    def test_a_photo_search_says_what_to_run(self):
        with pytest.raises(ExtractorUnavailable, match=r"no exported model of MobileNetV3Small yet\. .*reindex_embedd"):
            search.search_by_image(picture(), "testshop.Product")

    def test_the_page_answers_503(self, client):
        answer = client.post("/visual-search/photo/testshop/product/", {"image": picture_file(1)})
        assert answer.status_code == 503

    def test_the_check_says_what_to_run(self):
        field = get_field("testshop.Product")
        [message] = check_runtime_and_store(field)
        assert message.id == "visual_search.W002"
        assert "photo searches answer 503" in message.msg
        assert "manage.py reindex_embeddings" in message.hint

    def test_with_the_model_in_the_database(self):
        extractor = extractor_of(get_field("testshop.Product"))
        DatabaseStore().put(extractor.artifact, b"a model")
        assert extractor.export_needed() is None
        assert check_runtime_and_store(get_field("testshop.Product")) == []


@pytest.mark.django_db(transaction=True)
class TestPhotoBeforeSQL:
    """A photo takes long to embed: no statement of the search, and no connection of its own, waits for it."""

    @pytest.fixture
    def embedded(self, shop, monkeypatch):
        """(statements sent, whether a connection is open) when the photo is decoded."""
        seen = []

        def look(*arguments):
            seen.append((len(queries), connection.connection is not None))
            return decode_photo(*arguments)

        monkeypatch.setattr(query, "decode_photo", look)
        with CaptureQueriesContext(connection) as queries:
            yield seen

    def test_nothing_was_asked(self, embedded):
        assert search.search_by_image(picture(7), "testshop.Product", limit=1)
        assert embedded == [(0, True)]

    def test_a_connection_that_was_opened_for_it_is_closed(self, embedded):
        live.forget_live_spaces()
        connection.close()
        assert search.search_by_image(picture(7), "testshop.Product", limit=1)
        assert embedded == [(1, False)]

    def test_the_shops_own_stays_open(self, embedded):
        live.forget_live_spaces()
        assert search.search_by_image(picture(7), "testshop.Product", limit=1)
        assert embedded == [(1, True)]
