"""The rows of the issue "In a stranger's shop" that need models or packages of their own."""

from __future__ import annotations

import io

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connections, router
from django.utils import timezone
from PIL import Image

from django_visual_search import feedback, indexing, search
from django_visual_search.evaluation.catalogue import catalogue_rows
from django_visual_search.evaluation.gallery import load_gallery
from django_visual_search.evaluation.served import ann_recall
from django_visual_search.fields.registry import get_field
from django_visual_search.findability.report import Reason, unfindable_products
from django_visual_search.indexing import ann, status
from django_visual_search.models import Feedback, IndexingAttempt, RankingRule, ServingSpace
from django_visual_search.search.results import read_token
from django_visual_search.spaces import live
from django_visual_search.spaces.heads import serving_extractor_key
from django_visual_search.storefront.cards import cards
from django_visual_search.training.text import gather_texts

from ..conftest import embed_all, picture, picture_file
from . import models

pytestmark = pytest.mark.django_db


def fill(model, count=6, **values):
    """Products with a picture each, embedded."""
    made = [model.objects.create(image=picture_file(i), **values) for i in range(count)]
    assert embed_all(f"fieldshop.{model.__name__}.embedding").done == count
    return made


def try_rankers(made, label):
    """Check that rules and feedback name these products: one is hidden, one pinned, one bought."""
    rows = {"content_type": ContentType.objects.get_for_model(made[0]), "factor": 1.2}
    for rule in ({"kind": "hide", "object_id": str(made[1].pk)}, {"kind": "pin", "slot": 1, "object_id": made[2].pk}):
        rule = RankingRule(**{**rows, **rule, "query_id": str(made[0].pk)})
        rule.full_clean()
        rule.save()
    visual = [hit.product for hit in search.similar_to(made[0], ranking=False)]
    last = [product for product in visual if product not in made[:3]][-1]
    results = search.similar_to(made[0], ranking=False)
    for i in range(30):
        feedback.record("purchase", last, results=results, reference=str(i))
    feedback.aggregate()
    hits = list(search.similar_to(made[0], limit=5))
    assert hits[0].product == made[2]
    assert "pinned" in hits[0].reasons
    assert made[1] not in [hit.product for hit in hits]
    assert "feedback" in {hit.product: hit for hit in hits}[last].reasons
    assert len(search.similar_to(made[0], ranking=["django_visual_search.ranking.diversity"])) == 5
    more = search.next_page(read_token(search.similar_to(made[0], limit=2, depth=4).token))
    assert len(more) == 2
    assert search.search_by_image(picture(3), label, limit=3)[0].product == made[3]


class TestRow1:
    def test_any_column_name(self):
        made = fill(models.Named)
        assert len(search.similar_to(made[0], limit=5)) == 5
        found = search.search_by_image(picture(3), "fieldshop.Named", within=models.Named.objects.filter(key="x"))
        assert found[0].product == made[3]
        try_rankers(made, "fieldshop.Named")

    def test_any_column_name_of_companion_picture_and_product(self):
        things = [models.NamedThing.objects.create() for _ in range(4)]
        for i, thing in enumerate(things):
            models.NamedPicture.objects.create(product=thing, original=picture_file(i))
        assert embed_all("fieldshop.NamedCompanion.embedding").done == 4
        within = models.NamedThing.objects.filter(key="x")
        assert {hit.product for hit in search.similar_to(things[0], within=within)} == {*things[1:]}


class TestRow2:
    def test_deleted_products_stay_hidden_whatever_was_asked_before(self):
        made = fill(models.Deletable)
        made[1].delete()
        assert len(search.similar_to(made[0], within=models.Deletable.objects)) == 4
        assert len(search.similar_to(made[0], within=models.Deletable.all_objects)) == 5
        assert len(search.similar_to(made[0])) == 4
        assert len(search.similar_to(made[0], within=models.Deletable.objects)) == 4
        assert len(search.similar_to(made[0], within=models.Deletable.deleted_objects)) == 1

    def test_a_companion_is_not_short(self):
        things = [models.DeletableThing.objects.create(name=str(i)) for i in range(8)]
        for i, thing in enumerate(things):
            models.DeletablePicture.objects.create(thing=thing, image=picture_file(i))
        embed_all("fieldshop.DeletablePicture.embedding")
        for thing in things[1:4]:
            thing.delete()
        assert len(search.similar_to(things[0], limit=7, within=models.DeletableThing.all_objects)) == 7
        for within in (None, models.DeletableThing.objects, models.DeletableThing.objects.all()):
            hits = search.similar_to(things[0], limit=4, within=within)
            assert {hit.product for hit in hits} == {*things[4:]}


class TestRow3:
    def test_translated_products(self):
        made = fill(models.Translated, name="thing")
        assert len(search.similar_to(made[0])) == 5
        assert len(search.similar_to(made[0], within=models.Translated.objects.filter(name="thing"))) == 5

    def test_translated_companions(self):
        things = [models.TranslatedThing.objects.create(name=f"t{i}") for i in range(5)]
        for i, thing in enumerate(things):
            models.TranslatedPicture.objects.create(thing=thing, image=picture_file(i), caption="c")
        assert embed_all("fieldshop.TranslatedCompanion.embedding").done == 5
        assert len(search.similar_to(things[0])) == 4


@pytest.mark.django_db(databases=["default", "tenants"], transaction=True)
class TestRow4:
    """django-tenants: each shop has a schema of its own, and all share the processes."""

    @pytest.fixture
    def tenants(self, monkeypatch):
        connection = connections["tenants"]
        with connections["default"].cursor() as cursor:
            tables = [name for name in connection.introspection.table_names(cursor) if "." not in name]
            for shop in ("red", "blue"):
                cursor.execute(f"CREATE SCHEMA {shop}")
                for table in tables:
                    cursor.execute(f'CREATE TABLE {shop}."{table}" (LIKE public."{table}" INCLUDING ALL)')
                cursor.execute(f"INSERT INTO {shop}.django_content_type SELECT * FROM public.django_content_type")
        monkeypatch.setattr(router, "routers", [Router("tenants")])
        yield connection
        connection.close()
        with connections["default"].cursor() as cursor:
            cursor.execute("DROP SCHEMA red CASCADE; DROP SCHEMA blue CASCADE")

    def test_rules_spaces_and_facts_of_one_shop_do_not_act_in_another(self, tenants):
        made = {}
        for shop in ("red", "blue"):
            tenants.set_schema(shop)
            made[shop] = fill(models.Named)
        tenants.set_schema("red")
        kind = ContentType.objects.get_for_model(models.Named)
        RankingRule.objects.create(kind="hide", content_type=kind, object_id=str(made["red"][1].pk))
        now, moved = timezone.now(), {"extractor": "other", "previous_extractor": "default"}
        ServingSpace.objects.create(label="fieldshop.Named.embedding", changed_at=now, effective_at=now, **moved)
        live.forget_live_spaces()
        field = get_field("fieldshop.Named")
        for _ in range(2):
            tenants.set_schema("red")
            assert [space.extractor for space in live.live_spaces(field).all] == ["other", "default"]
            assert indexing.stale(field).count() == 6
            hidden = [hit.product.pk for hit in search.similar_to(made["red"][0], limit=5)]
            assert len(hidden) == 4
            assert made["red"][1].pk not in hidden
            tenants.set_schema("blue")
            assert [space.extractor for space in live.live_spaces(field).all] == ["default"]
            assert indexing.stale(field).count() == 0
            assert len(search.similar_to(made["blue"][0], limit=5)) == 5


class TestRow5:
    @pytest.mark.parametrize("how", ["plain", "only", "distinct", "slice", "depth"])
    def test_keys_whose_python_value_is_not_the_raw_one(self, how):
        made = fill(models.Hashed)
        all_of = models.Hashed.objects.order_by("pk")
        within = {"only": all_of.only("name"), "distinct": all_of.distinct(), "slice": all_of[:6]}.get(how)
        hits = search.similar_to(made[0], within=within, limit=5, depth=6 if how == "depth" else None)
        assert {hit.product.pk for hit in hits} == {one.pk for one in made[1:]}

    def test_rules_and_feedback_of_such_keys(self):
        try_rankers(fill(models.Hashed), "fieldshop.Hashed")

    def test_api_feedback_and_admin_of_such_keys(self, client, settings):
        made = fill(models.Hashed)
        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "VISIBLE": {"fieldshop.Hashed": "all"}}
        page = client.get(f"/visual-search/fieldshop/hashed/{made[0].pk}/similar/?limit=2").json()
        assert len(client.get(page["next"]).json()["results"]) == 2
        shown = page["results"][0]["id"]
        assert shown in [str(one.pk) for one in made]
        sent = {"token": page["token"], "events": [{"kind": "click", "product": shown}]}
        assert client.post("/visual-search/feedback/", sent, "application/json").json() == {"counted": 1}
        event = Feedback.objects.get(kind="click")
        assert {event.object_id, event.query_id} <= {str(one.pk.id) for one in made}, "as PostgreSQL has the keys"
        models.Hashed.objects.create(name="x", image="nowhere.jpg")
        embed_all("fieldshop.Hashed.embedding")
        assert IndexingAttempt.objects.count() == 1
        client.force_login(User.objects.create(username="boss", is_staff=True, is_superuser=True))
        assert f"Hashed object ({shown})" in client.get("/admin/django_visual_search/feedback/").content.decode()
        assert client.get("/admin/django_visual_search/indexingattempt/").status_code == 200

    def test_companions_of_such_keys(self):
        things = [models.HashedThing.objects.create(name=f"t{i}") for i in range(5)]
        for i, thing in enumerate(things):
            models.HashedPicture.objects.create(thing=thing, image=picture_file(i))
        assert embed_all("fieldshop.HashedCompanion.embedding").done == 5
        hits = search.similar_to(things[0])
        assert {hit.product for hit in hits} == {*things[1:]}
        assert len({hit.row for hit in hits}) == 4


class TestRow9:
    def test_history_keeps_versions_and_is_searched_by_nobody(self):
        made = fill(models.Remembered, name="a")
        made[0].name = "b"
        made[0].save()
        assert models.Remembered.history.filter(name="b").count() == 1
        assert len(search.similar_to(made[0])) == 5


class TestRow12:
    @pytest.mark.django_db(transaction=True)
    def test_a_table_in_another_schema(self, monkeypatch):
        monkeypatch.setattr(ann, "REBUILD_ROWS", 2)
        made = fill(models.Shelved)
        call_command("reindex_embeddings", "fieldshop.Shelved.embedding", "--force", "--sync", stdout=io.StringIO())
        assert ann.existing_indexes(get_field("fieldshop.Shelved"))["shelved_hnsw"]
        assert len(search.similar_to(made[0])) == 5


@pytest.mark.django_db(databases=["default", "second"])
class TestRow12Aliases:
    @pytest.fixture
    def everywhere(self, monkeypatch):
        """The same keys in both databases, with other pictures; each is embedded."""
        made = fill(models.Named)
        monkeypatch.setattr(router, "routers", [Router("second")])
        for i in range(4):
            models.Named.objects.create(pk=made[i].pk, image=picture_file(30 + i))
        embed_all("fieldshop.Named.embedding")
        monkeypatch.setattr(router, "routers", [])
        return made

    def test_within_names_the_database(self, everywhere):
        within = models.Named.objects.using("second")
        for hits in (
            search.similar_to(everywhere[0], within=within),
            search.similar_to(within.get(pk=everywhere[0].pk)),
            search.search_by_image(picture(30), "fieldshop.Named", within=within),
        ):
            assert {hit.product._state.db for hit in hits} == {"second"}
            assert len(hits) >= 3
        assert hits[0].product.pk == everywhere[0].pk
        assert hits[0].similarity > 0.99
        assert {hit.product._state.db for hit in search.similar_to(everywhere[0])} == {"default"}
        assert len(search.similar_to(everywhere[0])) == 5

    def test_saving_elsewhere_leaves_the_vector_alone(self, everywhere, django_capture_on_commit_callbacks):
        other = models.Named.objects.using("second").get(pk=everywhere[0].pk)
        with django_capture_on_commit_callbacks(using="second") as callbacks:
            other.image.save(everywhere[0].image.name, picture_file(99), save=False)
            other.save(using="second")
        assert callbacks == []
        assert ":?" not in models.Named.objects.get(pk=everywhere[0].pk).embedding_key


class Router:
    """Everything is in one database."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, model, **hints):
        return self.alias

    db_for_write = db_for_read


class TestRow16:
    def test_a_parent_is_not_among_its_own_similar_items(self):
        parents = [models.Variant.objects.create(name=f"p{i}") for i in range(4)]
        for i, parent in enumerate(parents):
            models.Variant.objects.create(name=f"v{i}", parent=parent, image=picture_file(i))
        embed_all("fieldshop.Variant.embedding")
        others = {*parents[1:]}
        assert {hit.product for hit in search.similar_to(parents[0])} == others
        assert {hit.product for hit in search.similar_to(parents[0].variants.get())} == others

    def test_a_parent_with_a_picture_of_its_own(self):
        parents = [models.Variant.objects.create(name=f"p{i}", image=picture_file(50 + i)) for i in range(4)]
        for i, parent in enumerate(parents):
            models.Variant.objects.create(name=f"v{i}", parent=parent, image=picture_file(i))
        embed_all("fieldshop.Variant.embedding")
        assert {hit.product for hit in search.similar_to(parents[0])} == {*parents[1:]}

    def test_a_polymorphic_child_finds_the_whole_catalogue(self):
        shirts = [models.Shirt.objects.create(name=f"s{i}", image=picture_file(i)) for i in range(3)]
        garments = [models.Garment.objects.create(name=f"g{i}", image=picture_file(10 + i)) for i in range(3)]
        trousers = [models.Trousers.objects.create(name=f"t{i}", image=picture_file(20 + i)) for i in range(3)]
        embed_all("fieldshop.Garment.embedding")
        everything = {one.pk for one in [*shirts, *garments, *trousers]}
        for one in (shirts[0], garments[0], trousers[0]):
            assert {hit.product.pk for hit in search.similar_to(one)} == everything - {one.pk}
        assert {type(hit.product) for hit in search.similar_to(shirts[0])} == {
            models.Shirt,
            models.Garment,
            models.Trousers,
        }


PARENTS, CHILDREN = "fieldshop.WareEmbedding.parents", "fieldshop.WareEmbedding.children"


class TestVariants:
    @pytest.fixture
    def wares(self):
        """By name: parents a to d; a has pictures, its child does not; b's child has them; c is alone; d has none."""
        made = {}
        shop = "a:2 a1:0 b:0 b1:1 c:1 d:0 d1:0 e:1 e1:1"
        for number, (name, pictures) in enumerate(one.split(":") for one in shop.split()):
            parent = name[0] if name[1:] else None
            made[name] = models.Ware.objects.create(name=name, parent=made.get(parent))
            for i in range(int(pictures)):
                models.WarePicture.objects.create(ware=made[name], image=picture_file(10 * number + i))
        assert embed_all(PARENTS).done == embed_all(CHILDREN).done == 6
        return made

    def names(self, product, label=PARENTS, **options):
        return {hit.product.name for hit in search.similar_to(product, field=label, **options)}

    def test_parents_are_found_and_nothing_else(self, wares):
        found = {"a", "b", "c", "e"}
        for name in ("a", "a1", "b", "b1", "c", "e", "e1"):
            assert self.names(wares[name]) == found - {name[0]}, name
        assert self.names(wares["d"]) == self.names(wares["d1"]) == set()
        hits = search.search_by_image(picture(30), PARENTS, limit=9)
        assert hits[0].product == wares["b"], "its picture is its child's"
        assert {hit.product.name for hit in hits} == found
        assert self.names(wares["a1"], within=models.Ware.objects.filter(name__in=["b", "b1", "e1"])) == {"b"}

    def test_a_child_is_asked_about_by_its_own_picture_if_it_has_one(self, wares):
        for name, seed in (("a1", 0), ("b1", 30), ("e1", 80), ("e", 70)):
            asked = search.similar_to(wares[name], field=PARENTS)
            photo = search.search_by_image(picture(seed), PARENTS, limit=9)
            order = [hit.product for hit in photo if hit.product.name != name[0]]
            assert [hit.product for hit in asked] == order, name

    def test_children_are_found_where_the_shop_says_so(self, wares):
        within = models.Ware.objects.filter(children=None)
        assert self.names(wares["b1"], CHILDREN, within=within) == {"c", "e1"}
        assert self.names(wares["a1"], CHILDREN, within=within) == {"b1", "c", "e1"}, "by its parent's pictures"
        assert self.names(wares["b"], CHILDREN, within=within) == {"c", "e1"}, "by its child's, which is no hit"

    def test_at_most_three_queries_and_an_index_for_each_way(self, wares, django_assert_max_num_queries):
        for name in ("a", "a1", "b1"):
            live.forget_live_spaces()
            child = models.Ware.objects.get(pk=wares[name].pk)
            with django_assert_max_num_queries(3):
                assert self.names(child)

    def test_pictures_of_a_hidden_child_are_neither_found_nor_shown(self, wares):
        models.Ware.objects.filter(name__in=["a1", "b1", "e1", "c"]).update(is_public=False)
        assert {picture.ware.name for picture in indexing.stale(get_field(PARENTS))} == {"b1", "e1"}
        assert embed_all(PARENTS).cleared == 2
        assert self.names(wares["a"]) == {"c", "e"}, "b has a picture of a hidden child only; c is no child"
        found = search.search_by_image(picture(80), PARENTS, limit=9)
        assert {hit.row.picture.ware.name for hit in found} == {"a", "c", "e"}
        owners = catalogue_rows(get_field(PARENTS)).values_list("_visual_product", flat=True)
        assert set(owners) == {wares[name].pk for name in ("a", "c", "e")}
        assert self.names(wares["a"], CHILDREN) == {"b1", "c", "e", "e1"}, "this field leaves none out"
        models.Ware.objects.filter(name="b1").update(is_public=True)
        assert embed_all(PARENTS).done == 1
        assert self.names(wares["a"]) == {"b", "c", "e"}

    def test_a_purchase_of_a_child_counts_for_its_parent(self, wares):
        results = search.similar_to(wares["b"], field=PARENTS)
        assert feedback.record("purchase", wares["a1"], results=results, reference="1")
        assert feedback.record("return", wares["a1"], reference="1")
        assert feedback.record("cart", wares["e1"], query=wares["b1"])
        assert set(Feedback.objects.values_list("kind", "object_id", "query_kind", "query_id")) == {
            (kind, str(wares[name].pk), "product", str(wares["b"].pk))
            for kind, name in (
                *(("impression", "a"), ("purchase", "a"), ("return", "a")),
                *(("impression", "e"), ("cart", "e")),
            )
        }
        wares["a1"].delete()
        with pytest.raises(ValueError, match="no primary key"):
            feedback.record("purchase", wares["a1"])

    def test_rules_for_children_are_their_parents(self, wares):
        kind = ContentType.objects.get_for_model(models.Ware)
        rule = RankingRule(kind="hide", content_type=kind, object_id=str(wares["e1"].pk), query_id=str(wares["a1"].pk))
        rule.full_clean()
        rule.save()
        assert self.names(wares["a1"]) == self.names(wares["a"]) == {"b", "c"}
        rule.query_id = str(wares["e"].pk)
        with pytest.raises(ValidationError, match="A product is not among its own similar items"):
            rule.full_clean()

    def test_status_and_findability(self, wares):
        # The status is of all fields: this shop has one for parents and one for children.
        found = {name: status.statuses(models.Ware, [ware.pk])[ware.pk] for name, ware in wares.items()}
        counts = {name: one.pictures for name, one in found.items()}
        assert counts == {"a": 4, "a1": 2, "b": 1, "b1": 2, "c": 2, "d": 0, "d1": 0, "e": 3, "e1": 3}
        assert [one.product for one in unfindable_products(models.Ware, Reason.NO_PICTURE, label=PARENTS)] == [
            str(wares["d"].pk)
        ]
        missing = status.in_state(models.Ware.objects.all(), status.State.MISSING)
        assert {ware.name for ware in missing} == {"d", "d1"}

    def test_catalogue_and_texts_are_of_parents(self, wares):
        field = get_field(PARENTS)
        rows = catalogue_rows(field).values_list("_visual_product", flat=True)
        assert sorted(rows) == sorted(wares[name].pk for name in ("a", "a", "b", "c", "e", "e"))
        assert set(gather_texts(field, 10).products) == {wares[name].pk for name in ("a", "b", "c", "e")}
        gallery = load_gallery(field, serving_extractor_key(field))
        assert ann_recall(field, gallery, np.arange(len(gallery))).recall == 1

    def test_a_model_that_is_product_and_variant(self):
        made = [models.Article.objects.create(name=f"p{i}", image=picture_file(i) if i else "") for i in range(4)]
        plain, pictured = (
            models.Article.objects.create(name=f"v{i}", parent=made[i], image=picture_file(20) if i == 0 else "")
            for i in (1, 0)
        )
        assert embed_all("fieldshop.Article.embedding").done == 4
        for asked, own in ((made[0], 0), (pictured, 0), (made[1], 1), (plain, 1), (made[2], 2)):
            assert {hit.product for hit in search.similar_to(asked)} == {*made} - {made[own]}
        assert search.search_by_image(picture(20), "fieldshop.Article")[0].product == made[0]


class TestThumbnails:
    @pytest.mark.parametrize("package", ["sorl", "easy_thumbnails", "imagekit", "pictures"])
    def test_cards_are_light(self, package, settings):
        """Each package makes two sizes of the picture, with its proportions kept."""
        settings.VISUAL_SEARCH = {
            **settings.VISUAL_SEARCH,
            "THUMBNAIL": f"django_visual_search.contrib.thumbnails.{package}",
        }
        photos = [ContentFile(picture(i, size=640), name=f"{package}.jpg") for i in range(2)]
        made = [models.Pictured.objects.create(image=photo) for photo in photos]
        embed_all("fieldshop.Pictured.embedding")
        [card] = cards(search.similar_to(made[1]))
        small, _, sharp, _ = card.srcset.replace(",", "").split()
        assert small == card.thumbnail
        for url, side in ((small, 240), (sharp, 480)):
            with default_storage.open(url.removeprefix(settings.MEDIA_URL)) as file, Image.open(file) as shown:
                assert side <= shown.width == shown.height <= 1.3 * side
            assert default_storage.size(url.removeprefix(settings.MEDIA_URL)) < made[0].image.size
