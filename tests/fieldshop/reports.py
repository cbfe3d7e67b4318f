"""Further shapes that users of other packages have reported in public trackers; each names its report."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.db.migrations.state import ProjectState
from django.db.models import Exists, F, FilteredRelation, OuterRef, Q, Window
from django.db.models.functions import RowNumber
from django.test.utils import isolate_apps

from django_visual_search import feedback, indexing, search
from django_visual_search.fields import EmbeddingField
from django_visual_search.fields.registry import get_field
from django_visual_search.models import RankingRule
from django_visual_search.search.fulltext import text_path_fault

from ..conftest import embed_all, picture, picture_file
from .cases import fill, try_rankers
from .models import Named
from .report_models import Attachment, Branch, Money, Priced, Reduced, Shelf, Sorted, SortedPicture, SortedThing

pytestmark = pytest.mark.django_db

PRICED, BRANCH = "fieldshop.Priced.embedding", "fieldshop.Branch.embedding"


@pytest.fixture
def priced():
    """Six products, of 0 to 5 euros, embedded."""
    made = [Priced.objects.create(name=f"p{i}", amount=i, image=picture_file(i)) for i in range(6)]
    assert embed_all(PRICED).done == 6
    return made


class TestColumns:
    def test_columns_that_the_database_computes(self, priced):
        """https://github.com/django-import-export/django-import-export/issues/1779"""
        hits = search.similar_to(priced[0], within=Priced.objects.filter(title__in=["P1", "P2"]))
        assert {hit.product.title for hit in hits} == {"P1", "P2"}
        row = Priced.objects.get(pk=priced[1].pk)
        row.name = "other"
        row.image.save("other.jpg", picture_file(30))
        assert embed_all(PRICED).done == 1
        copies = [Priced(name=f"c{i}", image=priced[i].image.name) for i in range(2)]
        Priced.objects.bulk_create(copies)
        assert embed_all(PRICED).done == 2
        assert search.similar_to(priced[0])[0].product.title == "C0"

    def test_an_order_by_expressions(self, priced):
        """https://github.com/photocrowd/django-cursor-pagination/issues/18"""
        assert [row.name for row in Priced.objects.all()[:2]] == ["p5", "p4"]
        assert {hit.product.name for hit in search.similar_to(priced[0], within=Priced.objects.all()[:3])} == {
            *("p5", "p4", "p3")
        }
        within = Priced.objects.order_by(F("shelf__name").asc(nulls_first=True), "-amount")[1:3]
        assert {hit.product.name for hit in search.similar_to(priced[0], within=within)} == {"p4", "p3"}
        assert len(search.similar_to(priced[0], within=Priced.objects.reverse().distinct())) == 5

    def test_two_columns_that_are_one_attribute(self, priced):
        """https://github.com/django-money/django-money/pull/105"""
        hits = search.similar_to(priced[0], within=Priced.objects.filter(amount__gt=3, currency="EUR"))
        assert sorted(hit.product.price.amount for hit in hits) == [Decimal(4), Decimal(5)]
        assert priced[0].price == Money(0, priced[0].currency)
        try_rankers(priced, "fieldshop.Priced")

    def test_an_image_that_is_null(self, priced):
        """https://github.com/respondcreate/django-versatileimagefield/issues/66"""
        empty = [Priced.objects.create(name="none", image=value) for value in (None, "")]
        assert embed_all(PRICED).done == 0
        assert not indexing.stale(get_field(PRICED)).exists()
        assert len(search.similar_to(empty[0])) == 0
        Priced.objects.filter(pk=priced[1].pk).update(image=None)
        assert embed_all(PRICED).cleared == 1
        assert len(search.similar_to(priced[0])) == 4


class TestKeys:
    def test_keys_that_are_shown_otherwise_than_the_database_reads_them(self):
        """https://github.com/ahawker/django-ulid/issues/61"""
        made = fill(Sorted)
        assert {hit.product.pk for hit in search.similar_to(made[0], within=Sorted.objects.all()[:6])} == {
            one.pk for one in made[1:]
        }
        try_rankers(made, "fieldshop.Sorted")

    def test_companions_of_such_keys(self):
        """https://github.com/ahawker/django-ulid/issues/144"""
        things = [SortedThing.objects.create() for _ in range(4)]
        for i, thing in enumerate(things):
            SortedPicture.objects.create(thing=thing, image=picture_file(i))
        assert embed_all("fieldshop.SortedCompanion.embedding").done == 4
        assert {hit.product for hit in search.similar_to(things[0])} == {*things[1:]}

    @isolate_apps("tests.fieldshop")
    def test_a_key_of_several_columns_is_refused(self):
        """https://github.com/etianen/django-reversion/issues/986"""

        class Stocked(models.Model):
            pk = models.CompositePrimaryKey("branch", "sku")
            branch = models.IntegerField()
            sku = models.CharField(max_length=40)
            image = models.ImageField(upload_to="stocked")
            embedding = EmbeddingField(source="image", dimensions=48)

            class Meta:
                app_label = "fieldshop"

        [error] = [one for one in Stocked.check() if one.id == "visual_search.E021"]
        assert "UniqueConstraint" in error.hint


class TestRelations:
    def test_a_tree_of_categories(self, priced):
        """https://github.com/django-mptt/django-mptt/issues/806"""
        root = Shelf.add_root(name="root")
        left, right = (root.add_child(name=name) for name in ("left", "right"))
        leaf = left.add_child(name="leaf")
        for product, shelf in zip(priced, (root, left, right, leaf, leaf, None), strict=True):
            Priced.objects.filter(pk=product.pk).update(shelf=shelf)
        below = Priced.objects.filter(shelf__in=Shelf.get_tree(Shelf.objects.get(pk=left.pk)))
        assert {hit.product.name for hit in search.similar_to(priced[0], within=below)} == {"p1", "p3", "p4"}
        either = Priced.objects.filter(shelf=right).union(Priced.objects.filter(shelf=leaf))
        assert {hit.product.name for hit in search.similar_to(priced[0], within=either)} == {"p2", "p3", "p4"}
        Shelf.objects.get(pk=leaf.pk).move(Shelf.objects.get(pk=right.pk), "first-child")
        below = Priced.objects.filter(shelf__path__startswith=Shelf.objects.get(pk=right.pk).path)
        assert {hit.product.name for hit in search.similar_to(priced[0], within=below)} == {"p2", "p3", "p4"}

    def test_a_relation_to_anything(self, priced):
        """https://github.com/allegro/ralph/pull/2584"""
        for product in priced[1:4]:
            for kind in ("new", "new", "sale"):
                Attachment.objects.create(target=product, kind=kind)
        within = Priced.objects.filter(attachments__kind="new").prefetch_related("attachments")
        hits = search.similar_to(priced[0], within=within)
        assert sorted(hit.product.name for hit in hits) == ["p1", "p2", "p3"]
        assert [len(hit.product.attachments.all()) for hit in hits] == [3] * 3
        assert "leads to several rows" in text_path_fault(Priced, "attachments__kind")
        priced[1].delete()
        assert Attachment.objects.count() == 6

    @isolate_apps("tests.fieldshop", "django.contrib.contenttypes")
    def test_a_product_by_a_relation_to_anything_is_refused(self):
        """https://github.com/jazzband/django-model-utils/issues/414"""

        class Shown(models.Model):
            content_type = models.ForeignKey(ContentType, models.CASCADE)
            object_id = models.PositiveBigIntegerField()
            thing = GenericForeignKey("content_type", "object_id")
            image = models.ImageField(upload_to="shown")
            embedding = EmbeddingField(source="image", product="thing", dimensions=48)

            class Meta:
                app_label = "fieldshop"

        [error] = [one for one in Shown.check() if one.id == "visual_search.E007"]
        assert "'thing' is not a forward relation" in error.msg
        assert "'content_type' or 'self'" in error.hint

    def test_a_proxy_with_a_manager_of_its_own(self, priced):
        """https://github.com/nautobot/nautobot/pull/8994"""
        reduced = Reduced.objects.get(pk=priced[0].pk)
        assert {hit.product.name for hit in search.similar_to(reduced, within=Reduced.objects.all())} == {"p1", "p2"}
        kind = ContentType.objects.get_for_model(Reduced, for_concrete_model=False)
        rule = RankingRule(kind="hide", content_type=kind, object_id=str(priced[1].pk), factor=1)
        rule.full_clean()
        rule.save()
        found = {hit.product.name for hit in search.similar_to(priced[0])}
        assert found == {"p2", "p3", "p4", "p5"}, "a rule is for the product, whatever its class"
        assert feedback.record("purchase", reduced, results=search.similar_to(priced[2]))


class TestQueries:
    @pytest.mark.parametrize("where", [transaction.atomic, None])
    def test_rows_that_the_shop_would_lock(self, where, priced, transactional_db):
        """https://github.com/Koed00/django-q/issues/586"""
        within = Priced.objects.filter(amount__gt=1).select_for_update(skip_locked=True)
        if where is None:
            found = search.similar_to(priced[0], within=within)
        else:
            with where():
                found = search.similar_to(priced[0], within=within)
        assert len(found) == 4

    def test_windows_and_what_else_a_query_may_have(self, priced):
        """https://github.com/SectorLabs/django-postgres-extra/issues/14"""
        number = Window(RowNumber(), partition_by="currency", order_by="-amount")
        newest = {
            hit.product.name
            for hit in search.similar_to(priced[0], within=Priced.objects.alias(n=number).filter(n__lte=2))
        }
        assert newest == {"p4", "p5"}
        shelf = Shelf.add_root(name="a")
        Priced.objects.filter(amount__in=[2, 3]).update(shelf=shelf)
        joined = Priced.objects.annotate(placed=FilteredRelation("shelf", condition=Q(shelf__name="a"))).filter(
            placed__name="a"
        )
        assert {hit.product.name for hit in search.similar_to(priced[0], within=joined)} == {"p2", "p3"}
        raw = Priced.objects.extra(where=["fieldshop_priced.amount > %s"], params=[4], order_by=["-amount"])
        assert [hit.product.name for hit in search.similar_to(priced[0], within=raw)] == ["p5"]
        twice = Priced.objects.filter(Exists(Priced.objects.filter(amount=OuterRef("amount") + 1, name__endswith="5")))
        assert [hit.product.name for hit in search.similar_to(priced[0], within=twice)] == ["p4"]

    def test_a_query_with_a_recursive_table_in_front(self):
        """https://github.com/feincms/django-tree-queries/issues/70"""
        root = Branch.objects.create(image=picture_file(0))
        rows = [Branch.objects.create(image=picture_file(i), parent=root) for i in range(1, 4)]
        leaf = Branch.objects.create(image=picture_file(9), parent=rows[0])
        assert embed_all(BRANCH).done == 5
        shallow = Branch.objects.all().with_tree().extra(where=["__tree.depth = 1"])
        assert {row.pk for row in shallow} == {row.pk for row in rows}
        assert {hit.product.pk for hit in search.similar_to(leaf, within=shallow)} == {row.pk for row in rows}
        found = search.search_by_image(picture(2), BRANCH, within=shallow.extra(select={"depth": "__tree.depth"}))
        assert (found[0].product.pk, found[0].product.depth) == (rows[1].pk, 1)


class TestMigrations:
    def test_rows_that_a_migration_makes(self, django_capture_on_commit_callbacks):
        """https://github.com/django-commons/django-simple-history/issues/326"""
        made = fill(Named, 3)
        old = ProjectState.from_apps(apps).apps.get_model("fieldshop", "Named")
        with django_capture_on_commit_callbacks(execute=True):
            row = old.objects.create(image=made[0].image.name)
            old.objects.filter(pk=made[1].pk).update(image=made[2].image.name)
            old.objects.get(pk=made[2].pk).delete()
        assert embed_all("fieldshop.Named.embedding").done == 2
        assert search.similar_to(made[0])[0].product.pk == row.pk
        assert len(search.similar_to(made[0])) == 2
