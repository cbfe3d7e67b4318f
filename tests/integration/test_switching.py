"""Switching between vector spaces: every product is findable at any time, by distances within one space only."""

import io
import shutil
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.db import connections

from django_visual_search import indexing, search
from django_visual_search.fields.registry import get_field
from django_visual_search.indexing.sweeping import prune_features
from django_visual_search.models import EmbeddingHead, PictureFeatures, ServingSpace
from django_visual_search.search import nearest, planning, query
from django_visual_search.search import results as search_results
from django_visual_search.spaces import live
from django_visual_search.spaces.heads import extractor_of_space, serving_extractor_key
from django_visual_search.training import switching

from ..conftest import embed_all, picture, picture_file
from ..heads import EXTRACTORS, LABEL, make_head
from ..processes import shop as processes  # noqa: F401
from ..processes import until
from ..testshop.models import Article, ArticleImage, ArticleImageEmbedding, Product

pytestmark = pytest.mark.slow

COUNT = 24


@pytest.fixture
def field(settings, db):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
    return get_field(LABEL)


@pytest.fixture
def products(field, monkeypatch):
    """Products of two backbones' worth of kept features; no waiting for other processes, as there are none."""
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    made = [Product.objects.create(name=str(i), image=picture_file(i)) for i in range(COUNT)]
    embed_all()
    return made


def run(*arguments, **options):
    output = io.StringIO()
    call_command("switch_embedding", *arguments, stdout=output, stderr=output, sync=True, **options)
    return output.getvalue()


def keys():
    """Extractor key -> how many products have a vector of it."""
    found = [key.partition(":")[0] for key in Product.objects.values_list("embedding_key", flat=True)]
    return {key: found.count(key) for key in set(found)}


def answers(numbers=range(COUNT)):
    """Each product's hits by its own picture, and its similar items."""
    found = {}
    for i in numbers:
        by_photo = search.search_by_image(picture(i), "testshop.Product", limit=8)
        similar = search.similar_to(Product.objects.get(name=str(i)), limit=8)
        found[i] = [[(hit.product.name, round(hit.similarity, 3)) for hit in hits] for hits in (by_photo, similar)]
    return found


def half_way(field, products):
    """Move the first half of the products."""
    for _ in indexing.embed(field, [product.pk for product in products[: COUNT // 2]]):
        pass


class TestHeads:
    def test_switch_and_rollback_decode_nothing(self, field, products, media):
        first = answers()
        before = serving_extractor_key(field)
        head = make_head("one")
        shutil.rmtree(media)
        said = run("one")
        assert keys() == {head.key: COUNT}
        assert f"{LABEL}: switched. To go back: manage.py switch_embedding --rollback {LABEL}" in said
        head.refresh_from_db()
        assert head.state == EmbeddingHead.State.SERVING
        assert answers() != first
        run(rollback=True, target=LABEL)
        assert keys() == {before: COUNT}
        assert answers() == first
        head.refresh_from_db()
        assert head.state == EmbeddingHead.State.RETIRED
        run(rollback=True, target=LABEL)
        assert keys() == {head.key: COUNT}

    def test_afterwards_everything_is_as_in_a_fresh_index(self, field, products):
        make_head("one")
        run("one")
        switched = answers()
        Product.objects.update(embedding=None, embedding_key=None)
        PictureFeatures.objects.all().delete()
        assert embed_all().done == COUNT
        assert answers() == switched

    def test_new_pictures_are_embedded_in_the_serving_space(self, field, products):
        head = make_head("one")
        run("one")
        Product.objects.create(name="new", image=picture_file(99))
        embed_all()
        assert keys() == {head.key: COUNT + 1}
        assert search.search_by_image(picture(99), "testshop.Product", limit=1)[0].product.name == "new"


class TestPicturesWithoutAVector:
    """A switch succeeds where they had none before it; it reports failure for others, though it is complete."""

    @pytest.fixture
    def refused(self, field, products):
        made = Product.objects.create(name="refused", image=ContentFile(b"no picture", name="refused.jpg"))
        assert embed_all().refused == 1
        return made

    def test_refused_before(self, field, refused):
        make_head("one")
        said = run("one")
        assert f"refused: {refused.pk} (" in said
        assert f"{LABEL}: switched." in said
        assert said.endswith("The pictures named above had no vector before either.\n")
        assert run(rollback=True, target=LABEL).endswith("had no vector before either.\n")

    def test_lost_in_the_switch(self, field, refused, media):
        """A file was lost since, and no features of it are kept."""
        product = Product.objects.get(name="3")
        (media / product.image.name).unlink()
        PictureFeatures.objects.filter(object_id=str(product.pk)).delete()
        make_head("one")
        with pytest.raises(CommandError, match=r"had a vector before and have none in this space, .*: 1\.") as failed:
            run("one")
        assert failed.value.returncode == 1
        assert live.live_spaces(field).other is None
        assert not search.similar_to(product, limit=3)
        assert run("--rollback", LABEL).endswith("had no vector before either.\n")
        assert len(search.similar_to(Product.objects.get(name="3"), limit=3)) == 3

    def test_on_companions(self, settings, db, media, monkeypatch):
        settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS}
        monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
        label = "testshop.ArticleImageEmbedding.embedding"
        article = Article.objects.create(title="a")
        images = [ArticleImage.objects.create(article=article, original=picture_file(i)) for i in range(3)]
        ArticleImage.objects.create(article=article, original=ContentFile(b"no picture", name="refused.jpg"))
        assert embed_all(label).done == 3
        assert run("tight", label, force=True).endswith("had no vector before either.\n")
        (media / images[0].original.name).unlink()
        PictureFeatures.objects.all().delete()
        with pytest.raises(CommandError, match="had a vector before"):
            run("default", label, force=True)


class TestHalfWay:
    @pytest.fixture
    def spaces(self, field, products):
        """(old, new) extractor, half of the products moved."""
        old = extractor_of_space(field, live.live_spaces(field).serving)
        head = make_head("one")
        switching.announce(field, switching.space_named(field, "one"))
        half_way(field, products)
        assert keys() == {old.spec.key: COUNT // 2, head.key: COUNT // 2}
        return old, extractor_of_space(field, live.live_spaces(field).serving)

    def test_every_product_is_found_by_its_picture(self, spaces):
        for i in range(COUNT):
            hits = search.search_by_image(picture(i), "testshop.Product", limit=COUNT)
            assert len(hits) == len({hit.product.pk for hit in hits}) == COUNT
            assert str(i) in [hit.product.name for hit in hits[:2]], "the best of its space"

    def test_similarities_are_those_within_a_space(self, field, spaces):
        """Against NumPy: never a distance between vectors of two spaces."""
        own = {}
        for extractor in spaces:
            rows = dict(PictureFeatures.objects.filter(label=LABEL).values_list("object_id", "features"))
            own[extractor.spec.key] = {
                key: extractor.project(np.frombuffer(bytes(data), "<f2")[None])[0] for key, data in rows.items()
            }
        seen = set()
        for product in Product.objects.all():
            for hit in search.similar_to(product, limit=COUNT):
                assert hit.product.embedding_key.startswith(f"{hit.extractor_key}:")
                vectors = own[hit.extractor_key]
                expected = float(vectors[str(product.pk)] @ vectors[str(hit.product.pk)])
                assert hit.similarity == pytest.approx(expected, abs=2e-3)
                seen.add((product.embedding_key.partition(":")[0], hit.extractor_key))
        assert len(seen) == 4, "from both spaces to both"

    def test_pages_are_full_and_filters_hold(self, spaces):
        product = Product.objects.get(name="0")
        within = Product.objects.filter(name__in=[str(i) for i in range(0, COUNT, 3)])
        hits = search.similar_to(product, limit=5, within=within)
        assert len(hits) == 5
        assert {int(hit.product.name) % 3 for hit in hits} == {0}
        assert search.similar_to(product, limit=COUNT).ranking.places[-1]
        assert len(search.similar_to(product, limit=COUNT)) == COUNT - 1

    def test_ranks_are_merged_by_how_many_rows_each_space_has(self, field, spaces, products):
        for _ in indexing.embed(field, [product.pk for product in products[: COUNT - 2]]):
            pass

        nearest.forget_counts()
        hits = search.search_by_image(picture(3), "testshop.Product", limit=COUNT)
        olds = [hit.rank for hit in hits if hit.extractor_key == spaces[0].spec.key]
        assert len(olds) == 2
        assert olds[0] > 3, "the best of two stands for the best twelfth"

    @pytest.mark.parametrize("asked", ["a photo", "a moved product", "a product"])
    def test_rows_that_move_while_a_search_goes_on_are_found(self, field, spaces, monkeypatch, asked):
        old, new = spaces
        own = old if asked == "a product" else new
        product = Product.objects.filter(embedding_key__startswith=own.spec.key).first()
        build, statements = nearest.search_statement, []

        def after_all_moved(*arguments, **options):
            embed_all()
            statements.append(build(*arguments, **options))
            return statements[-1]

        monkeypatch.setattr(nearest, "search_statement", after_all_moved)
        if asked == "a photo":
            hits = search.search_by_image(picture(int(product.name)), "testshop.Product", limit=COUNT)
            assert (len(hits), hits[0].product) == (COUNT, product)
        else:
            assert len(search.similar_to(product, limit=COUNT - 1)) == COUNT - 1
        assert keys() == {new.spec.key: COUNT}
        assert len(statements) == 1

    def test_without_kept_features_a_products_own_space_is_searched(self, spaces, caplog, monkeypatch):
        """No page of a product waits for a picture to be decoded."""
        PictureFeatures.objects.all().delete()
        monkeypatch.setattr(query.images, "load", None)
        query._log_once.cache_clear()
        for name in ("0", "1"):
            assert len(search.similar_to(Product.objects.get(name=name), limit=COUNT)) == COUNT // 2 - 1
        assert caplog.text.count("one of two vector spaces is not searched") == 1

    def test_without_kept_features_a_search_follows_its_product_to_the_new_space(self, spaces, monkeypatch):
        """As in a switch to another extractor: the last rows move between the look at the product and the search."""
        old, new = spaces
        PictureFeatures.objects.all().delete()
        product = Product.objects.filter(embedding_key__startswith=old.spec.key).first()
        build = nearest.search_statement
        moves = [embed_all]

        def after_all_moved(*arguments, **options):
            while moves:
                moves.pop()()
                PictureFeatures.objects.all().delete()
            return build(*arguments, **options)

        monkeypatch.setattr(nearest, "search_statement", after_all_moved)
        results = search.similar_to(product, limit=COUNT - 1)
        assert (len(results), results.extractor_key) == (COUNT - 1, new.spec.key)

    def test_what_one_of_two_spaces_gives_is_not_called_exact(self, spaces):
        product = Product.objects.get(name="0")
        assert search.similar_to(product, limit=3).exact
        PictureFeatures.objects.all().delete()
        assert not search.similar_to(product, limit=3).exact

    def test_going_back_half_way(self, spaces, products):
        run(rollback=True, target=LABEL)
        assert keys() == {spaces[0].spec.key: COUNT}

    def test_running_it_again_goes_on(self, spaces, products):
        said = run("one")
        assert f"{LABEL}: one serves already." in said
        assert f"{COUNT // 2} of {COUNT} pictures to embed" in said
        assert keys() == {spaces[1].spec.key: COUNT}
        assert live.live_spaces(get_field(LABEL)).other is None

    def test_the_sweep_goes_on_and_ends_it(self, spaces):
        embed_all()
        assert keys() == {spaces[1].spec.key: COUNT}
        assert ServingSpace.objects.get().finished_at is not None

    def test_a_third_space_has_to_wait(self, field, spaces):
        make_head("two", seed=2)
        with pytest.raises(CommandError, match=r"is being switched to one: let that be finished .* or go back"):
            run("two", force=True)

    def test_pages_go_on_across_the_switch(self, spaces):
        results = search.search_by_image(picture(5), "testshop.Product", limit=6, depth=COUNT)
        names = [hit.product.name for hit in results]
        run("one")
        ranking = results.ranking
        while ranking.more:
            page = search.next_page(ranking, limit=6)
            names += [hit.product.name for hit in page]
            ranking = page.ranking
        assert sorted(names, key=int) == [str(i) for i in range(COUNT)]

    def test_a_picture_that_is_gone_does_not_hold_it_up(self, field, spaces, products, media):
        moved = Product.objects.filter(embedding_key__startswith=spaces[0].spec.key).first()
        PictureFeatures.objects.filter(object_id=str(moved.pk)).delete()
        moved.image.storage.delete(moved.image.name)
        with pytest.raises(CommandError, match=r"have none in this space, .*: 1\."):
            run("one")
        assert ServingSpace.objects.get().finished_at is not None


class TestExtractors:
    def test_to_another_extractor_and_back_from_kept_features(self, field, products, media):
        first, before = answers(), serving_extractor_key(field)
        run("tight", LABEL, force=True)
        assert before not in keys()
        assert keys() == {serving_extractor_key(field): COUNT}
        shutil.rmtree(media)
        run(rollback=True, target=LABEL)
        assert keys() == {before: COUNT}
        assert answers() == first

    def test_a_product_that_was_read_before_a_switch(self, field, products):
        """An instance from a shop's own cache."""
        product = Product.objects.get(name="3")
        fresh = run("tight", LABEL, force=True) and search.similar_to(Product.objects.get(name="3"), limit=8)
        hits = search.similar_to(product, limit=8)
        assert [hit.product for hit in hits] == [hit.product for hit in fresh]
        assert hits.extractor_key == serving_extractor_key(field)

    def test_a_product_with_nothing_near_it_costs_three_queries(self, products, django_assert_max_num_queries):
        planning.forget_facts()
        product = Product.objects.get(name="3")
        with django_assert_max_num_queries(3):
            assert len(search.similar_to(product, within=Product.objects.filter(price=-1))) == 0

    def test_photos_are_embedded_by_both(self, field, products):
        switching.announce(field, switching.space_named(field, "tight"))
        half_way(field, products)
        for i in range(COUNT):
            hits = search.search_by_image(io.BytesIO(picture(i)), "testshop.Product", limit=2)
            assert str(i) in [hit.product.name for hit in hits]


class TestRefused:
    def test_worse_on_held_out_pictures(self, field, products):
        make_head("bad", before=0.6, after=0.5)
        with pytest.raises(
            CommandError,
            match=r"bad is worse on held-out pictures .*: R@1 .* / mAP 0.500, against .* 0.600 of .* --force",
        ):
            run("bad")
        assert not ServingSpace.objects.exists()
        assert run("bad", force=True)

    def test_measured_against_something_else(self, field, products):
        make_head("one")
        make_head("two", seed=2)
        run("one")
        with pytest.raises(CommandError, match=r"two was measured against .*, but .* serves now"):
            run("two")

    def test_the_serving_head_may_have_learned_from_the_held_out_pictures(self, field, products):
        make_head("one", after=0.65)
        run("one")
        two = make_head("two", seed=2, before=0.99, after=0.7)
        two.summary["flattered"] = "one"
        two.save()
        with pytest.raises(CommandError) as refused:
            run("two")
        assert (
            "mAP 0.700, against R@1 0.500 / mAP 0.990 of the serving space. That flatters one, which knows these"
            in str(refused.value)
        )
        assert "on those held out from itself it reached mAP 0.650." in str(refused.value)

    def test_never_measured(self, field, products):
        make_head("one", metrics=[])
        with pytest.raises(CommandError, match="one was never measured"):
            run("one")

    def test_an_extractor_that_is_measured_to_be_worse(self, field, products, monkeypatch):
        figures = {"default": 0.8, "tight": 0.7}
        said = []
        measured = switching.measure_space(field, extractor_of_space(field, switching.Space("tight")))

        def as_if(field, extractor):
            alias = "default" if extractor is extractor_of_space(field, switching.Space("default")) else "tight"
            return {task: replace(m, mean_average_precision=figures[alias]) for task, m in measured.items()}

        monkeypatch.setattr(switching, "measure_space", as_if)
        why = switching.worse(field, switching.Space("tight"), said.append)
        assert why == "tight is worse on the shop's pictures: mAP 0.700, against 0.800 of the serving space."
        assert len(said) == 3
        figures["tight"] = 0.9
        assert switching.worse(field, switching.Space("tight")) is None

    def test_an_extractor_against_a_head_that_learned_from_the_pictures(self, field, products, monkeypatch):
        make_head("one")
        run("one")
        measured = switching.measure_space(field, extractor_of_space(field, switching.Space("tight")))
        precision = iter((0.9, 0.8))

        def as_if(field, extractor):
            value = next(precision)
            return {task: replace(m, mean_average_precision=value) for task, m in measured.items()}

        monkeypatch.setattr(switching, "measure_space", as_if)
        why = switching.worse(field, switching.Space("tight"))
        assert "tight is worse" in why
        assert "`train_embedding --extractor tight` learns one for tight, and compares both fairly." in why

    def test_an_extractor_is_measured_with_the_shops_pictures(self, field, products):
        said = run("tight", LABEL)
        assert "measuring the serving space and tight with up to 1000 pictures" in said
        assert said.count("altered views") == 2
        assert keys() == {serving_extractor_key(field): COUNT}

    def test_unknown(self, field, products):
        make_head("one")
        with pytest.raises(CommandError, match=r"has no head 'x' \(it has: one\), .* \(it has: default, tight\)"):
            run("x", LABEL)

    def test_nothing_to_go_back_to(self, field):
        with pytest.raises(CommandError, match="was never switched"):
            run(rollback=True, target=LABEL)

    def test_no_target(self, field):
        with pytest.raises(CommandError, match="Name a head or an extractor"):
            run()


def test_companions_switch_too(field, monkeypatch, media):
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    label = "testshop.ArticleImageEmbedding.embedding"
    companion = get_field(label)
    article = Article.objects.create(title="a")
    pictures = [ArticleImage.objects.create(article=article, original=picture_file(i)) for i in range(6)]
    embed_all(label)
    head = make_head("articles", label=label)
    switching.announce(companion, switching.space_named(companion, "articles"))
    for _ in indexing.embed(companion, [one.pk for one in pictures[:3]]):
        pass
    for i in range(6):
        [hit] = search.search_by_image(picture(i), label, limit=3)
        assert hit.product == article
    shutil.rmtree(media)
    run("articles")
    rows = ArticleImageEmbedding.objects.values_list("embedding_key", flat=True)
    assert {key.partition(":")[0] for key in rows} == {head.key}


def test_a_companion_row_never_finds_its_own_product_while_rows_move(field, monkeypatch):
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)
    label = "testshop.ArticleImageEmbedding.embedding"
    companion = get_field(label)
    articles = [Article.objects.create(title=str(i)) for i in range(4)]
    pictures = [
        ArticleImage.objects.create(article=article, original=picture_file(2 * i + j))
        for i, article in enumerate(articles)
        for j in range(2)
    ]
    embed_all(label)
    make_head("articles", label=label)
    switching.announce(companion, switching.space_named(companion, "articles"))
    for _ in indexing.embed(companion, [one.pk for one in pictures[::2]]):
        pass
    for row in ArticleImageEmbedding.objects.select_related("image"):
        hits = search.similar_to(row, limit=4)
        assert {hit.product.pk for hit in hits} == {one.pk for one in articles} - {row.image.article_id}
        assert search_results.read_token(hits.token).query_id == str(row.image.article_id)


def test_kept_features_of_a_picture_replaced_under_its_name_are_deleted(field, products):
    product = products[0]
    name = product.image.name
    product.image.storage.delete(name)
    product.image.save(name.rpartition("/")[2], picture_file(77))
    assert product.image.name == name
    assert not PictureFeatures.objects.filter(object_id=str(product.pk)).exists()
    embed_all()
    assert search.search_by_image(picture(77), "testshop.Product", limit=1)[0].product == product
    assert PictureFeatures.objects.filter(object_id=str(product.pk)).count() == 1


@pytest.mark.parametrize("most", [0, 5])
def test_as_many_features_are_kept_as_the_setting_allows(settings, db, most):
    settings.VISUAL_SEARCH = {"EXTRACTORS": EXTRACTORS, "FEATURE_CACHE_ROWS": most}
    for i in range(8):
        Product.objects.create(name=str(i), image=picture_file(i))
    assert embed_all().done == 8
    assert PictureFeatures.objects.count() == most


def test_features_that_no_head_uses_are_deleted(field, products):
    one, two = make_head("one"), make_head("two", seed=2, alias="tight")
    run("tight", LABEL, force=True)
    assert PictureFeatures.objects.count() == 2 * COUNT
    PictureFeatures.objects.filter(features_key=one.features_key).update(features_key="of-old")
    deleted = products[0]
    Product.objects.filter(pk=deleted.pk).delete()
    assert prune_features(field, every_seconds=0) == COUNT + 1
    assert set(PictureFeatures.objects.values_list("features_key", flat=True)) == {two.features_key}
    PictureFeatures.objects.update(features_key="of-old")
    assert prune_features(field) == 0, "not again within the hour"


def vectors_of(extractor):
    """Name of a product -> its vector by that extractor, from the kept features."""
    names = {str(pk): name for pk, name in Product.objects.values_list("pk", "name")}
    kept = PictureFeatures.objects.filter(label=LABEL, features_key=extractor.features_key)
    return {
        names[key]: extractor.project(np.frombuffer(bytes(data), "<f2")[None])[0]
        for key, data in kept.values_list("object_id", "features")
    }


class Client(threading.Thread):
    """Searches without a pause, and notes every fault."""

    LIMIT, EXACT = 6, 2e-3

    def __init__(self, vectors):
        super().__init__(daemon=True)
        self.vectors = vectors
        """Extractor key -> name of a product -> its vector in that space."""
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.asked = 0
        self.seen: set[str] = set()

    def run(self):
        rng = np.random.default_rng(0)
        try:
            while not self.over.wait(0.03):  # which leaves the processor to the switch
                i = int(rng.integers(COUNT))
                photo = search.search_by_image(picture(i), "testshop.Product", limit=self.LIMIT)
                similar = search.similar_to(Product.objects.get(name=str(i)), limit=self.LIMIT)
                for what, hits in (("photo", photo), ("similar", similar)):
                    self.asked += 1
                    self.seen |= {hit.extractor_key for hit in hits}
                    if len(hits) != self.LIMIT:
                        self.wrong.append(f"{what} {i}: {len(hits)} hits")
                    for hit in hits:
                        # What is asked with is a product's picture: only its vector of the hit's space is so near.
                        own = self.vectors[hit.extractor_key]
                        expected = float(own[str(i)] @ own[hit.product.name])
                        if abs(hit.similarity - expected) > self.EXACT:
                            self.wrong.append(f"{what} {i}: {hit.extractor_key} {hit.similarity} for {expected}")
                    if what == "photo" and i not in [int(hit.product.name.lstrip("x")) % COUNT for hit in hits[:3]]:
                        self.wrong.append(f"{what} {i}: not among {[hit.product.name for hit in hits]}")
        except Exception as e:
            self.wrong.append(repr(e))
        finally:
            connections.close_all()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_under_load_killed_half_way_resumed_and_rolled_back(processes, monkeypatch):  # noqa: F811
    processes.settings.VISUAL_SEARCH = {
        **processes.settings.VISUAL_SEARCH,
        "EXTRACTORS": EXTRACTORS,
        "LEASE_SECONDS": 2,
    }
    field = get_field(LABEL)
    extra = 400
    for i in range(COUNT):
        Product.objects.create(name=str(i), image=picture_file(i))
    shared = [Product(name=f"x{i}", image=Product.objects.get(name=str(i % COUNT)).image.name) for i in range(extra)]
    Product.objects.bulk_create(shared)
    embed_all()
    Product.objects.filter(name__startswith="x").update(is_published=False)
    planning.forget_facts()
    old, head = serving_extractor_key(field), make_head("one")
    spaces = [
        extractor_of_space(field, s) for s in (live.live_spaces(field).serving, switching.space_named(field, "one"))
    ]
    vectors = {extractor.spec.key: vectors_of(extractor) for extractor in spaces}
    assert set(vectors) == {old, head.key}
    between = [np.array([own[str(i)] for i in range(COUNT)]) for own in vectors.values()]
    apart = np.abs(between[0] @ between[0].T - between[1] @ between[1].T)[~np.eye(COUNT, dtype=bool)]
    assert (apart > Client.EXACT).mean() > 0.9, "similarities tell the spaces apart"
    client = Client(vectors)
    client.start()
    moved = lambda: Product.objects.filter(embedding_key__startswith=f"{head.key}:").count()  # noqa: E731
    try:
        command = processes.command("switch_embedding", "one", "--sync", "--batch-size", "4")
        until(lambda: moved() > (COUNT + extra) / 2, 60, "half of the switch")
        command.send_signal(signal.SIGKILL)
        command.wait()
        assert 0 < moved() < COUNT + extra
        time.sleep(1)
        code, said = processes.run("switch_embedding", "one", "--sync")
        assert code == 0, said
        assert moved() == COUNT + extra
        switched = answers(range(4))
        code, said = processes.run("switch_embedding", "--rollback", LABEL, "--sync")
        assert code == 0, said
        assert moved() == 0
        time.sleep(1)
    finally:
        client.over.set()
        client.join(30)
    assert client.wrong == []
    assert client.seen == {old, head.key}
    assert client.asked > 50
    Product.objects.update(embedding=None, embedding_key=None)
    PictureFeatures.objects.all().delete()
    live.forget_live_spaces()
    assert embed_all().done == COUNT + extra
    monkeypatch.setattr(switching, "SWITCH_GRACE", 0)  # nobody else searches any more
    run(rollback=True, target=LABEL)
    live.forget_live_spaces()
    assert answers(range(4)) == switched


def test_a_catalogue_without_vectors_waits_for_nothing(field):
    product = Product.objects.create(name="first", image=picture_file(1))
    make_head("one")
    space = switching.space_named(field, "one")
    assert switching.announce(field, space) <= 0
    embed_all()
    product.refresh_from_db()
    assert product.embedding_key.startswith(space.key)
    assert switching.roll_back(field)[1] > 0, "there is a vector now, which other processes search"
