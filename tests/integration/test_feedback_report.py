"""Reports from browsers: what they may contain, and how often it counts."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.db import close_old_connections, connection

from django_visual_search import feedback, search
from django_visual_search.feedback.events import NETWORK_ROWS, SESSION_ROWS
from django_visual_search.feedback.sessions import ip_network_of
from django_visual_search.models import Feedback
from django_visual_search.search.planning import forget_facts
from django_visual_search.search.results import TOKEN_SALT, read_token

from ..conftest import embed_all, picture_file
from ..testshop.models import (
    Article,
    ArticleImage,
    FeaturedProduct,
    Item,
    LongStory,
    Poster,
    Product,
    Shoe,
    Spare,
    StoryImage,
)
from ..visits import moved_to, ranking, token, visitor

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)


def report(signed, *events, request=None):
    return feedback.report(request or visitor(), signed, events)


def kinds(**filters):
    return sorted(Feedback.objects.filter(**filters).values_list("kind", "object_id"))


class TestAccepted:
    @pytest.fixture
    def products(self):
        made = [Product.objects.create(image=picture_file(seed)) for seed in range(8)]
        embed_all()
        return made

    def test_a_click(self, products):
        results = search.similar_to(products[0], limit=5)
        hit = results[2]
        with moved_to(NOW + timedelta(days=400)):
            results = search.similar_to(products[0], limit=5)
            assert report(results.token, ("click", str(hit.product.pk))) == feedback.Report(1, 0)
        clicked, shown = Feedback.objects.order_by("-id")
        assert (clicked.kind, shown.kind) == ("click", "impression")
        for row in (clicked, shown):
            assert row.product == hit.product
            assert row.content_type.model_class() is Product
            assert row.label == "testshop.Product.embedding"
            assert row.extractor_key == results.extractor_key != ""
            assert (row.query_kind, row.query_id) == ("product", str(products[0].pk))
            assert row.search == uuid.UUID(results.ranking.search)
            assert row.rank == 3
            assert row.similarity == pytest.approx(hit.similarity, abs=1e-4)
            assert row.session == feedback.session_of(visitor(), NOW + timedelta(days=400))
            assert row.network == ip_network_of(visitor(), NOW + timedelta(days=400))
            assert row.created_at == NOW + timedelta(days=400)
            assert not row.counted

    def test_hits_of_a_photo(self, products):
        results = search.search_by_image(picture_file(3), "testshop.Product", limit=3)
        report(results.token, ("favourite", str(products[3].pk)))
        row = Feedback.objects.get(kind="favourite")
        assert (row.query_kind, row.query_id, row.rank) == ("photo", "", 1)

    def test_later_pages(self, products):
        first = search.similar_to(products[0], limit=3, depth=7)
        second = search.next_page(read_token(first.token), limit=3)
        pk = str(second[1].product.pk)
        with pytest.raises(feedback.NotOffered):
            report(first.token, ("click", pk))
        report(second.token, ("click", pk), ("click", str(first[0].product.pk)))
        assert list(Feedback.objects.filter(kind="click").order_by("id").values_list("rank", flat=True)) == [5, 1]

    def test_the_query_itself_was_not_offered(self, products):
        with pytest.raises(feedback.NotOffered):
            report(search.similar_to(products[0], limit=7).token, ("click", str(products[0].pk)))


@pytest.mark.parametrize("kind", ["click", "favourite", "cart", "skip"])
def test_other_kinds_imply_an_impression(kind):
    assert report(token([1, 2], 9), (kind, "2")) == feedback.Report(1, 0)
    assert kinds() == sorted([("impression", "2"), (kind, "2")])


def test_several_events():
    signed = token([1, 2, 3], 9)
    events = [("impression", "1"), ("impression", "2"), ("impression", "3"), ("click", "2"), ("cart", "2")]
    assert report(signed, *events) == feedback.Report(5, 0)
    assert Feedback.objects.count() == 5


def test_no_events():
    assert report(token([1], 9)) == feedback.Report(0, 0)


def test_a_primary_key_that_is_a_number():
    assert report(token([1], 9), ("click", 1)).counted == 1


def test_lists_as_from_json():
    body = json.loads('{"events": [["click", "1"]]}')
    assert feedback.report(visitor(), token([1], 9), body["events"]).counted == 1


class TestRefused:
    @pytest.mark.parametrize("kind", ["purchase", "return"])
    def test_kinds_of_the_shop(self, kind):
        with pytest.raises(feedback.BadEvent, match=r"recorded by the shop itself, by feedback\.record"):
            report(token([1], 9), (kind, "1"))

    @pytest.mark.parametrize("kind", ["bought", "", "CLICK", None, 1, ["click"], {"kind": "click"}, True])
    def test_unknown_kinds(self, kind):
        with pytest.raises(feedback.BadEvent, match="There is no kind of event"):
            report(token([1], 9), (kind, "1"))

    @pytest.mark.parametrize("product", ["2", "", "1 ", " 1", "01", "1\0", "\ud800", "9", "x" * 100_000, -1, 10**30])
    def test_products_that_were_not_shown(self, product):
        with pytest.raises(feedback.NotOffered) as refused:
            report(token([1], 9), ("click", product))
        assert len(str(refused.value)) < 300

    @pytest.mark.parametrize("product", [None, True, 1.0, b"1", ["1"], {"pk": "1"}])
    def test_not_a_primary_key(self, product):
        with pytest.raises(feedback.BadEvent, match="primary key as text"):
            report(token([1], 9), ("click", product))

    @pytest.mark.parametrize("events", [None, 1, "click", b"click", {"click": "1"}])
    def test_not_a_list(self, events):
        with pytest.raises(feedback.BadEvent, match="must be a list"):
            feedback.report(visitor(), token([1], 9), events)

    @pytest.mark.parametrize("pair", [None, "click", ("click",), ("click", "1", "2"), {"kind": "click"}, 1, []])
    def test_not_an_event(self, pair):
        with pytest.raises(feedback.BadEvent, match="An event is"):
            feedback.report(visitor(), token([1], 9), [pair])

    def test_too_many(self):
        with pytest.raises(feedback.BadEvent, match="At most 200 events"):
            report(token([1], 9), *[("click", "1")] * 201)

    def test_one_invalid_event_refuses_all(self):
        with pytest.raises(feedback.NotOffered):
            report(token([1], 9), ("click", "1"), ("click", "2"))
        with pytest.raises(feedback.BadEvent):
            report(token([1], 9), ("click", "1"), ("purchase", "1"))
        assert not Feedback.objects.exists()

    def test_places_that_were_not_shown(self):
        signed = token([1, 2, 3], 9, shown=2)
        assert report(signed, ("click", "2")).counted == 1
        with pytest.raises(feedback.NotOffered):
            report(signed, ("click", "3"))

    def test_blank_places(self):
        signed = token(["", "2"], 9)
        with pytest.raises(feedback.NotOffered):
            report(signed, ("click", ""))
        report(signed, ("click", "2"))
        assert Feedback.objects.get(kind="click").rank == 2

    def test_every_refusal_is_a_value_error(self):
        for kind in (feedback.BadToken, feedback.NotOffered, feedback.BadEvent):
            assert issubclass(kind, ValueError)


class TestTokens:
    def refused(self, signed, why="not valid"):
        with pytest.raises(feedback.BadToken, match=why):
            report(signed, ("click", "1"))
        assert not Feedback.objects.exists()

    @pytest.mark.parametrize("signed", ["", "x", ":", "::", "a:b:c", "\0", "\ud800", "é:é:é", "." * 10_000])
    def test_invalid(self, signed):
        self.refused(signed)

    @pytest.mark.parametrize("signed", [None, 1, b"x", ["x"], {}])
    def test_not_text(self, signed):
        self.refused(signed, "must be text")

    def test_every_altered_character_is_detected(self):
        signed = token([1], 9)
        for i in range(0, len(signed), 7):
            self.refused(signed[:i] + ("A" if signed[i] != "A" else "B") + signed[i + 1 :])

    def test_a_payload_with_the_signature_of_another(self):
        mine, other = token([1], 9).split(":"), token([2], 9).split(":")
        self.refused(":".join([other[0], *mine[1:]]))

    def test_signed_for_another_purpose(self):
        payload = signing.loads(token([1], 9), salt=TOKEN_SALT)
        self.refused(signing.dumps(payload, salt="django.contrib.sessions", compress=True))
        self.refused(signing.dumps(payload, compress=True))

    def test_signed_with_another_key(self, settings):
        signed = token([1], 9)
        settings.SECRET_KEY = "stolen?"
        self.refused(signed)
        settings.SECRET_KEY_FALLBACKS = ["tests"]
        assert report(signed, ("click", "1")).counted == 1

    def test_too_old(self):
        with moved_to(NOW):
            signed = token([1], 9)
        with moved_to(NOW + timedelta(hours=23)):
            assert report(signed, ("click", "1")).counted == 1
        Feedback.objects.all().delete()
        with moved_to(NOW + timedelta(hours=25)):
            self.refused(signed, "too old")

    @pytest.mark.parametrize("label", ["shop.Gone.embedding", "", "testshop.Category.name", "auth.User"])
    def test_a_field_that_no_longer_exists(self, label):
        self.refused(token([1], 9, label=label), "no longer exists")


class TestProductsOfEveryShape:
    """An event names the field's concrete product model, and a primary key as text."""

    @pytest.fixture
    def shapes(self):
        def pictured(model, seed, **values):
            return model.objects.create(image=picture_file(seed), **values)

        articles = [Article.objects.create() for _ in range(2)]
        for seed, article in enumerate(articles):
            ArticleImage.objects.create(article=article, original=picture_file(seed))
        stories = [LongStory.objects.create(code=f"s{n}") for n in range(2)]
        for seed, story in enumerate(stories):
            StoryImage.objects.create(story=story, original=picture_file(seed))
        Item.objects.create(name="so that a shoe's key is no item's")
        made = {
            "proxy": ([pictured(FeaturedProduct, n) for n in range(2)], Product),
            "child": ([pictured(Shoe, n) for n in range(2)], Shoe),
            "uuid": ([pictured(Poster, n) for n in range(2)], Poster),
            "char": ([pictured(Spare, n, sku=f"a/ü '{n}") for n in range(2)], Spare),
            "companion": (articles, Article),
            "child of the product": (stories, LongStory.__bases__[0]),
        }
        labels = ["Product", "Shoe", "Poster", "Spare", "ArticleImageEmbedding", "StoryImageEmbedding"]
        embed_all(*(f"testshop.{label}.embedding" for label in labels))
        yield made
        forget_facts()

    @pytest.mark.parametrize("shape", ["proxy", "child", "uuid", "char", "companion", "child of the product"])
    def test_reported_recorded_counted_and_ranked(self, shapes, shape):
        (query, other), model = shapes[shape]
        results = search.similar_to(query)
        (hit,) = results
        assert report(results.token, ("click", str(hit.product.pk))).counted == 1
        assert feedback.record("purchase", other, request=visitor(), reference="order 1")
        clicked, bought = Feedback.objects.exclude(kind="impression").order_by("id")
        for row in (clicked, bought):
            assert row.content_type.model_class() is model
            assert row.product == model.objects.get(pk=other.pk)
            assert row.query_id == str(query.pk)
            assert row.rank == 1
        assert feedback.aggregate() == 3
        forget_facts()  # it says that there is no evidence
        (again,) = search.similar_to(query, ranking=[seen := Seen()])
        assert again.product == hit.product
        assert seen.pair == seen.alone
        assert [round(number, 2) for number in seen.pair] == [6, 1]


class Seen:
    """A ranker that changes nothing."""

    needs = frozenset({"evidence"})

    def __call__(self, candidates, context):
        (candidate,) = candidates
        self.pair, self.alone = candidate.pair, candidate.alone
        return candidates


class TestDuplicates:
    def test_reported_twice(self):
        signed = token([1, 2], 9)
        assert report(signed, ("click", "1"), ("click", "1")) == feedback.Report(1, 1)
        assert report(signed, ("click", "1"), ("click", "2")) == feedback.Report(1, 1)
        assert Feedback.objects.filter(kind="click").count() == 2

    def test_an_impression_that_a_click_implied(self):
        signed = token([1], 9)
        report(signed, ("click", "1"))
        assert report(signed, ("impression", "1")) == feedback.Report(0, 1)

    def test_the_same_search_again(self):
        assert report(token([1], 9), ("click", "1")).counted == 1
        assert report(token([2, 1], 9), ("click", "1")) == feedback.Report(0, 1)
        assert report(token([2, 1], 9, label="TESTSHOP.product.EMBEDDING"), ("click", "1")) == feedback.Report(0, 1)

    def test_any_photos_are_the_same(self):
        assert report(token([1]), ("click", "1")).counted == 1
        assert report(token([1]), ("click", "1")) == feedback.Report(0, 1)
        assert report(token([1], kind="text"), ("click", "1")).counted == 1

    def test_other_queries_products_kinds_and_visitors_count(self):
        assert report(token([1, 2], 9), ("click", "1")).counted == 1
        assert report(token([1, 2], 8), ("click", "1")).counted == 1
        assert report(token([1, 2], 9), ("click", "2")).counted == 1
        assert report(token([1, 2], 9), ("cart", "1")).counted == 1
        assert report(token([1, 2], 9), ("click", "1"), request=visitor(agent="Chrome")).counted == 1
        assert report(token([1, 2], 9, label="testshop.Shoe.embedding"), ("click", "1")).counted == 1

    def test_joined_parts_are_not_mixed_up(self):
        assert report(token(["1", "11"], "9"), ("click", "11")).counted == 1
        assert report(token(["1", "11"], "19"), ("click", "1")).counted == 1
        assert report(token(["1", "11"], "119"), ("click", "1")).counted == 1

    def test_a_new_search_on_another_day_counts(self):
        for day in range(3):
            with moved_to(NOW + timedelta(days=day)):
                assert report(token([1], 9), ("click", "1")) == feedback.Report(1, 0)

    def test_a_token_sent_again_on_another_day_does_not(self):
        with moved_to(NOW):
            signed = token([1], 9)
            assert report(signed, ("click", "1")).counted == 1
        with moved_to(NOW + timedelta(hours=20)):
            assert report(signed, ("click", "1")) == feedback.Report(0, 1)

    @pytest.mark.django_db(transaction=True)
    def test_sent_at_the_same_time(self):
        signed = token(range(1, 41), 9)
        events = [("click", str(n)) for n in range(1, 41)]

        def send(number):
            try:
                turned = events[number * 5 :] + events[: number * 5]
                return report(signed, *turned)
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as threads:
            reports = list(threads.map(send, range(8)))
        close_old_connections()
        assert sum(one.counted for one in reports) == 40
        assert sum(one.duplicates for one in reports) == 7 * 40
        assert Feedback.objects.count() == 80


def store_many(count, request):
    """Store that many events of the visitor."""
    session, network = feedback.session_of(request), ip_network_of(request)
    model = ContentType.objects.get_for_model(Product)
    Feedback.objects.bulk_create(
        Feedback(
            kind="impression",
            created_at=datetime.now(UTC),
            content_type=model,
            object_id=f"x{n}",
            session=session,
            network=network,
            digest=uuid.uuid4().hex,
        )
        for n in range(count)
    )


class TestLimits:
    def test_events_of_a_session_in_a_period(self, caplog):
        store_many(SESSION_ROWS - 6, visitor())
        signed = token(range(1, 21), 9)
        assert report(signed, *[("impression", str(n)) for n in range(1, 5)]) == feedback.Report(4, 0)
        assert report(signed, *[("impression", str(n)) for n in range(1, 11)]) == feedback.Report(2, 4, 4)
        assert report(signed, ("click", "1")) == feedback.Report(0, 0, 1)
        assert Feedback.objects.count() == SESSION_ROWS
        assert len(caplog.records) == 1
        with moved_to(datetime.now(UTC) + timedelta(days=1)):
            assert report(token([1], 9), ("click", "1")).counted == 1

    def test_events_of_a_network_in_a_period(self):
        store_many(NETWORK_ROWS - 5, visitor(agent="Bot"))
        signed = token(range(1, 21), 9)
        counted = [report(signed, ("click", "1"), request=visitor(agent=f"Bot {n}")).counted for n in range(4)]
        assert counted == [1, 1, 0, 0]
        assert Feedback.objects.count() == NETWORK_ROWS
        assert report(signed, ("click", "1"), request=visitor("192.0.2.2")).counted == 1


def test_four_round_trips(django_assert_num_queries):
    signed = token(range(1, 101), 9)
    report(signed)  # fills Django's caches
    with django_assert_num_queries(4):  # savepoint, stored events, insert, release
        report(signed, *[("impression", str(n)) for n in range(1, 101)])


def test_a_token_names_its_field():
    assert ranking([1], 9).label == "testshop.Product.embedding"
