"""Further instances of the kinds of fault in "In a stranger's shop"."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import F, Value

from django_visual_search import search
from django_visual_search.storefront.cards import cards

from ..conftest import embed_all, picture, picture_file
from . import models
from .cases import fill, try_rankers
from .report_models import Annotated, Branch, Coded, Gone, Level

pytestmark = pytest.mark.django_db


class TestRow1:
    def test_columns_named_like_our_annotations_and_words_of_sql(self):
        made = fill(Annotated)
        within = Annotated.objects.filter(visual_product="x", user="x")
        assert len(search.similar_to(made[0], within=within)) == 5
        try_rankers(made, "fieldshop.Annotated")

    def test_annotations_of_the_shop_that_are_named_like_ours(self):
        made = fill(models.Named)
        within = models.Named.objects.annotate(visual_product=Value("x"), similarity=F("key"))
        found = search.similar_to(made[0], within=within.filter(visual_product="x"))
        assert [hit.product.similarity for hit in found] == ["x"] * 5


class TestRow2:
    def test_a_query_that_adds_its_condition_when_it_compiles(self):
        made = fill(Gone, name="a")
        Gone.everything.filter(pk=made[1].pk).update(gone=True)
        for _ in range(2):
            assert len(search.similar_to(made[0])) == 4
            assert len(search.similar_to(made[0], within=Gone.everything.all())) == 5
            assert len(search.similar_to(made[0], within=Gone.objects.all())) == 4
            assert len(search.search_by_image(picture(1), "fieldshop.Gone", within=Gone.objects.filter(name="a"))) == 5

    def test_one_queryset_asked_twice(self):
        made = fill(Gone, name="a")
        within = Gone.objects.all()
        assert len(search.similar_to(made[0], within=within)) == 5
        Gone.everything.filter(pk=made[1].pk).update(gone=True)
        assert len(search.similar_to(made[0], within=within)) == 4
        assert len(within) == 5


class TestRow3:
    def test_a_manager_that_defers_and_annotates(self):
        made = fill(Gone, name="a")
        found = search.similar_to(made[0], within=Gone.partial.all())
        assert [hit.product.first for hit in found] == ["a"] * 5
        assert len(search.similar_to(Gone.partial.get(pk=made[0].pk))) == 5

    def test_columns_selected_in_another_order(self):
        made = fill(models.Translated, name="thing")
        within = models.Translated.objects.extra(select={"a": "1"}).only("price").annotate(z=F("price"))
        assert [(hit.product.a, hit.product.z) for hit in search.similar_to(made[0], within=within)] == [(1, 0)] * 5


CODES = ["a:b", "a#b?c", "ä/\\'\"%s", "", " x ", "~=", "{}[](),;", "0"]


class TestRow5:
    def test_keys_of_any_signs(self):
        made = [Coded.objects.create(code=code, image=picture_file(i)) for i, code in enumerate(CODES)]
        assert embed_all("fieldshop.Coded.embedding").done == len(CODES)
        for one in made:
            assert {hit.product.pk for hit in search.similar_to(one)} == {*CODES} - {one.pk}
        assert len(search.similar_to(made[0], within=Coded.objects.order_by("code")[:4])) >= 3
        made[2].image.save("other.jpg", picture_file(50))
        assert embed_all("fieldshop.Coded.embedding").done == 1

    def test_rules_and_feedback_of_such_keys(self):
        made = [Coded.objects.create(code=code, image=picture_file(i)) for i, code in enumerate(CODES[:3] + CODES[4:7])]
        embed_all("fieldshop.Coded.embedding")
        try_rankers(made, "fieldshop.Coded")


class TestRow8:
    @pytest.mark.parametrize("url", [None, 7, ""])
    def test_an_address_that_is_none(self, url, monkeypatch):
        made = fill(models.Named)
        monkeypatch.setattr(models.Named, "get_absolute_url", lambda row: url, raising=False)
        shown = cards(search.similar_to(made[0]))
        assert len(shown) == 5

    def test_a_card_that_the_shop_cannot_make(self, settings):
        made = fill(models.Named)

        def card(hit, request=None):
            if hit.product.pk == made[1].pk:
                raise LookupError("no price")
            return {}

        settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "CARD": card}
        assert len(cards(search.similar_to(made[0]))) >= 4


class TestRow15:
    def test_combined_of_combined(self):
        made = fill(models.Named)
        rows = models.Named.objects
        keys = [one.pk for one in made]
        first, second, third = (rows.filter(pk__in=keys[i : i + 2]) for i in (0, 2, 4))
        for within, expected in (
            (first.union(second).union(third), {*keys[1:]}),
            (first.union(second, third, all=True).order_by("key", "-pk")[1:4], {*keys[2:5]}),
            (rows.none().union(second), {*keys[2:4]}),
            (rows.all().difference(first, second), {*keys[4:]}),
            (first.annotate(part_of=Value(1)).union(second.annotate(part_of=Value(2))), {*keys[1:4]}),
            (rows.filter(pk__in=first.union(second).values("pk")), {*keys[1:4]}),
        ):
            found = {hit.product.pk for hit in search.similar_to(made[0], within=within)}
            assert found == expected, within.query
        assert search.search_by_image(picture(2), "fieldshop.Named", within=first.union(second))[0].product == made[2]

    def test_slices_that_are_combined(self):
        made = fill(models.Named)
        rows = models.Named.objects.order_by("pk")
        within = rows[:2].union(rows[4:6])
        expected = {one.pk for one in within} - {made[0].pk}
        assert {hit.product.pk for hit in search.similar_to(made[0], within=within)} == expected


class TestRow16:
    def test_three_levels(self):
        styles = [Level.objects.create() for _ in range(3)]
        variants = [Level.objects.create(parent=style, image=picture_file(i)) for i, style in enumerate(styles)]
        sizes = [Level.objects.create(parent=row, image=picture_file(10 + i)) for i, row in enumerate(variants)]
        assert embed_all("fieldshop.Level.embedding").done == 6
        for asked in (styles[0], variants[0], sizes[0]):
            assert {hit.product for hit in search.similar_to(asked)} == {*styles[1:]}
        assert search.search_by_image(picture(11), "fieldshop.Level")[0].product == styles[1]

    def test_one_that_is_its_own_parent(self):
        made = [Branch.objects.create(image=picture_file(i)) for i in range(3)]
        odd = [models.Variant.objects.create(name=f"o{i}", image=picture_file(i)) for i in range(3)]
        for row in odd:
            models.Variant.objects.filter(pk=row.pk).update(parent=row)
        Branch.objects.filter(pk=made[0].pk).update(parent=made[0])
        assert embed_all("fieldshop.Variant.embedding").done == 3
        for row in odd:
            row.refresh_from_db()
            assert {hit.product for hit in search.similar_to(row)} == {*odd} - {row}


class TestRow12:
    def test_a_materialised_view(self, transactional_db):
        made = [models.Named.objects.create(image=picture_file(i), key="xy"[i % 2]) for i in range(6)]
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW fieldshop_listed")
            cursor.execute(
                "CREATE MATERIALIZED VIEW fieldshop_listed AS SELECT id, image FROM fieldshop_named WHERE key = 'x'"
            )
        try:
            assert embed_all("fieldshop.ListedCompanion.embedding").done == 3
            hits = search.similar_to(models.Listed.objects.get(pk=made[0].pk))
            assert {hit.product.pk for hit in hits} == {made[2].pk, made[4].pk}
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP MATERIALIZED VIEW fieldshop_listed")
                cursor.execute("CREATE VIEW fieldshop_listed AS SELECT id, image FROM fieldshop_named WHERE key = 'x'")
