"""Rules as staff write them: what is refused, what is put right, and that they count at once."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from django_visual_search import search
from django_visual_search.models import RankingRule
from django_visual_search.search import planning
from django_visual_search.search.planning import forget_facts

from ..testshop.models import Category, FeaturedProduct, LongStory, Poster, Product, Story
from .test_ranking_search import numbers, shop  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db


def rule(kind="pin", product=None, model=Product, **values):
    content_type = ContentType.objects.get_for_model(model, for_concrete_model=False)
    return RankingRule(**{"slot": 1 if kind == "pin" else None, "kind": kind, "content_type": content_type, **values})


def faults(made):
    with pytest.raises(ValidationError) as refused:
        made.full_clean()
    return refused.value.message_dict


@pytest.fixture
def products():
    return [Product.objects.create(name=f"p{i}") for i in range(3)]


class TestClean:
    def test_sound_rules(self, products):
        now = timezone.now()
        for values in (
            {"kind": "pin", "slot": 3},
            {"kind": "boost", "factor": 0.5},
            {"kind": "boost", "factor": 2},
            {"kind": "hide", "query_id": str(products[1].pk), "starts_at": now, "ends_at": now + timedelta(days=1)},
        ):
            made = rule(object_id=str(products[0].pk), **values)
            made.full_clean()
            made.save()
            assert made.product == products[0]
        assert str(made) == f"hide: {products[0].pk}"

    def test_keys_are_written_as_searches_write_them(self, products):
        made = rule(object_id=f" {products[0].pk}", query_id=f"0{products[1].pk} ")
        made.full_clean()
        assert (made.object_id, made.query_id) == (str(products[0].pk), str(products[1].pk))
        poster = Poster.objects.create()
        made = rule(model=Poster, object_id=poster.pk.hex.upper())
        made.full_clean()
        assert made.object_id == str(poster.pk)

    def test_proxies_and_children_stand_for_the_searched_model(self, products):
        made = rule(model=FeaturedProduct, object_id=str(products[0].pk))
        made.full_clean()
        assert made.content_type.model_class() is Product
        story = LongStory.objects.create(code="x")
        made = rule(model=LongStory, object_id=str(story.pk))
        made.full_clean()
        assert made.content_type.model_class() is Story

    @pytest.mark.parametrize("name", ["object_id", "query_id"])
    @pytest.mark.parametrize("key", ["0", "x", "10" * 30, "1.5", "7dc63eb7-4c7b-41f9-9e0b-18019b13b74b"])
    def test_products_that_are_not_there(self, products, name, key):
        made = rule(**{"object_id": str(products[0].pk), name: key})
        assert faults(made) == {name: [f"There is no product with the primary key {key}."]}

    def test_other_faults(self, products):
        pk = str(products[0].pk)
        now = timezone.now()
        assert faults(rule(object_id=pk, slot=None)) == {"slot": ["A pin needs a slot: the product's rank."]}
        assert "slot" in faults(rule(object_id=pk, slot=0))
        assert "factor" in faults(rule("boost", object_id=pk, factor=2.1))
        assert faults(rule("boost", object_id=pk, factor=math.nan))
        assert faults(rule(object_id=pk, query_id=pk)) == {
            "query_id": ["A product is not among its own similar items."]
        }
        assert faults(rule(object_id=pk, starts_at=now, ends_at=now)) == {"ends_at": ["It ends before it starts."]}
        assert faults(rule(model=Category, object_id="1")) == {
            "content_type": ["Products of this model are not found by their pictures."]
        }
        assert set(faults(RankingRule())) == {"kind", "content_type"}

    def test_only_pins_have_slots(self, products):
        made = rule("hide", object_id=str(products[0].pk), slot=4)
        made.full_clean()
        assert made.slot is None

    @pytest.mark.parametrize("values", [{"slot": None}, {"slot": 0}, {"factor": 2.5}, {"factor": math.nan}])
    def test_the_database_refuses_them_too(self, products, values):
        with pytest.raises(IntegrityError), transaction.atomic():
            rule(object_id=str(products[0].pk), **values).save()


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture(autouse=True)
    def _remembered(self, shop):  # noqa: F811
        forget_facts()
        self.shop = shop
        assert self.first() == 1
        assert len(planning.facts_memory)
        yield
        forget_facts()

    def first(self):
        return numbers(search.similar_to(self.shop[0], limit=1))[0]

    def test_a_rule_counts_in_this_process_as_soon_as_it_is_saved_changed_or_deleted(self):
        made = rule("hide", object_id=str(self.shop[1].pk))
        made.save()
        assert self.first() == 2
        made.object_id = str(self.shop[2].pk)
        made.save()
        assert self.first() == 1
        made.object_id = str(self.shop[1].pk)
        made.save()
        assert self.first() == 2
        made.delete()
        assert self.first() == 1

    def test_a_rule_that_may_be_rolled_back_is_not_remembered(self):
        with transaction.atomic():
            rule("hide", object_id=str(self.shop[1].pk)).save()
            assert self.first() == 2
            assert not len(planning.facts_memory)
            transaction.set_rollback(True)
        assert self.first() == 1

    def test_and_when_its_transaction_commits(self):
        with transaction.atomic():
            rule("hide", object_id=str(self.shop[1].pk)).save()
            with ThreadPoolExecutor(1) as others:
                assert others.submit(self.first_elsewhere).result() == 1
            assert len(planning.facts_memory)
        assert not len(planning.facts_memory)
        assert self.first() == 2

    def first_elsewhere(self):
        try:
            return self.first()
        finally:
            connection.close()
