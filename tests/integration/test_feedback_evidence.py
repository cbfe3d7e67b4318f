"""Evidence sums events: each once, corrected for position, fading, and bounded for one visitor."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import close_old_connections, connection

from django_visual_search import feedback
from django_visual_search.feedback.sessions import session_of_user
from django_visual_search.models import Evidence, Feedback
from django_visual_search.tasks import aggregate, sweep

from ..testshop.models import Product, Spare
from ..visits import evidence, moved_to, token, visitor

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)
PRODUCTS = range(1, 21)


@pytest.fixture(autouse=True)
def frozen():
    with moved_to(NOW):
        yield


def browser(number: int):
    """Return visitors of different networks."""
    return visitor(f"198.51.{number // 250}.{number % 250}")


def shown(*events, query=9, number=0, **kwargs):
    """Report events of a visitor who is shown products 1 to 20 for a query."""
    return feedback.report(browser(number), token(PRODUCTS, query, **kwargs), events)


class TestSums:
    def test_a_click(self):
        shown(("click", "4"))
        assert feedback.aggregate() == 2
        assert evidence(9) == evidence() == {"4": (1, 0.25)}
        assert set(Feedback.objects.values_list("kind", "counted", "gain", "exposure")) == {
            ("impression", True, 0, 0.25),
            ("click", True, 1, 0),
        }

    def test_exposure_by_rank(self):
        shown(*[("impression", str(n)) for n in PRODUCTS])
        feedback.aggregate()
        assert evidence(9) == {str(n): (0, round(1 / n, 4)) for n in PRODUCTS}

    @pytest.mark.parametrize("bias", [0, 0.5, 2])
    def test_another_bias(self, settings, bias):
        settings.VISUAL_SEARCH = {"POSITION_BIAS": bias}
        shown(("impression", "4"))
        feedback.aggregate()
        assert evidence() == {"4": (0, round(4**-bias, 4))}

    def test_a_click_rate_corrected_for_position(self):
        for number in range(100):
            shown(("impression", "1"), ("impression", "5"), number=number)
            shown(*[("click", "1")] * (number < 10), *[("click", "5")] * (number < 4), number=number)
        feedback.aggregate()
        assert evidence(9) == {"1": (10, 100), "5": (4, 20)}

    @pytest.mark.parametrize(("kind", "gain"), [("click", 1), ("favourite", 2), ("cart", 3), ("skip", -1)])
    def test_kinds_from_browsers(self, kind, gain):
        shown((kind, "2"))
        feedback.aggregate()
        assert evidence(9) == {"2": (gain, 0.5)}

    @pytest.mark.parametrize(
        ("kind", "gain"), [("click", 1), ("favourite", 2), ("cart", 3), ("skip", -1), ("purchase", 5), ("return", -4)]
    )
    def test_anonymous_events_of_the_shop(self, kind, gain):
        query, hit = Product.objects.create(), Product.objects.create()
        for _ in range(10):
            feedback.record(kind, hit, query=query)
        feedback.aggregate()
        looked_at = 0 if kind == "return" else 10
        assert evidence(query) == evidence() == {str(hit.pk): (10 * gain, looked_at)}

    def test_from_click_to_return(self):
        hit = Product.objects.create()
        feedback.report(visitor(), token([1, hit], 9), [("click", str(hit.pk)), ("cart", str(hit.pk))])
        feedback.record("purchase", hit, request=visitor(), reference="order 7")
        feedback.aggregate()
        assert evidence(9) == {str(hit.pk): (3 + 5, 0.5)}
        feedback.record("return", hit, reference="order 7")
        feedback.aggregate()
        assert evidence(9) == evidence() == {str(hit.pk): (3 + 5 - 4, 0.5)}

    def test_a_purchase_without_a_search(self):
        feedback.record("purchase", Product.objects.create(), reference="order 7")
        assert feedback.aggregate() == 1
        assert not Evidence.objects.exists()
        assert Feedback.objects.get().counted

    def test_hits_alone_are_the_sum_over_queries_and_photos(self):
        shown(("click", "2"), query=7)
        shown(("click", "2"), query=8, number=1)
        shown(("click", "2"), query="", number=2)
        shown(("skip", "2"), query="", kind="text", number=3)
        feedback.aggregate()
        assert evidence(7) == evidence(8) == {"2": (1, 0.5)}
        assert evidence() == {"2": (2, 2)}
        assert Evidence.objects.count() == 3

    def test_models_are_separate(self):
        shown(("click", "1"))
        feedback.report(visitor(), token(["1"], 9, label="testshop.Spare.embedding"), [("click", "1")])
        feedback.record("click", Spare(sku="1"), query=Spare(sku="9"))
        feedback.aggregate()
        assert evidence(9) == {"1": (1, 1)}
        assert evidence(9, "testshop.spare") == {"1": (2, 2)}

    def test_a_product_that_is_deleted(self):
        hit = Product.objects.create()
        feedback.report(visitor(), token([hit], 9), [("click", str(hit.pk))])
        key = str(hit.pk)
        hit.delete()
        assert feedback.aggregate() == 2
        assert evidence(9) == {key: (1, 1)}
        assert Feedback.objects.first().product is None


class TestExactlyOnce:
    def test_counted_events_stay_counted(self):
        shown(("click", "1"))
        assert [feedback.aggregate() for _ in range(3)] == [2, 0, 0]
        assert evidence() == {"1": (1, 1)}

    def test_in_batches(self):
        for number in range(5):
            shown(*[("click", str(n)) for n in range(1, 5)], number=number)
        assert feedback.aggregate(batch=7) == 40
        assert evidence(9) == {"1": (5, 5), "2": (5, 2.5), "3": (5, round(5 / 3, 4)), "4": (5, 1.25)}

    def test_more_events_later(self):
        shown(("click", "1"))
        feedback.aggregate()
        shown(("click", "1"), number=1)
        assert feedback.aggregate() == 2
        assert evidence(9) == evidence() == {"1": (2, 2)}

    @pytest.mark.django_db(transaction=True)
    def test_several_at_once_while_events_come_in(self):
        """Different batches touch the same rows of evidence, in no common order."""
        visitors, done = 60, []

        def visit(part):
            rng = random.Random(part)
            for number in range(part, visitors, 3):
                events = [("click", str(n)) for n in rng.sample(PRODUCTS, 6)]
                shown(*events, query=rng.randint(30, 33), number=number)

        def count(_):
            counted = 0
            while len(done) < 3:
                counted += feedback.aggregate(batch=11)
            return counted + feedback.aggregate(batch=11)

        def closing(function, arg):
            try:
                return function(arg)
            finally:
                connection.close()

        with ThreadPoolExecutor(7) as threads:
            counts = [threads.submit(closing, count, None) for _ in range(4)]
            visits = [threads.submit(closing, visit, part) for part in range(3)]
            for one in visits:
                one.add_done_callback(done.append)
            counted = sum(one.result(60) for one in counts)
            for one in visits:
                one.result(60)
        close_old_connections()
        events = Feedback.objects.all()
        assert counted == events.count() == 2 * 6 * visitors
        assert not events.filter(counted=False).exists()
        alone = evidence()
        assert sum(gain for gain, _ in alone.values()) == pytest.approx(6 * visitors, abs=0.01)
        for key, (gain, exposure) in alone.items():
            clicks = events.filter(kind="click", object_id=key).count()
            assert (gain, exposure) == (pytest.approx(clicks, abs=0.01), pytest.approx(clicks / int(key), abs=0.01))
        assert sum(row.gain for row in Evidence.objects.exclude(query_id="")) == pytest.approx(6 * visitors, abs=0.01)


class TestFading:
    def later(self, **delta):
        return moved_to(NOW + timedelta(**delta))

    def test_halves_until_added_to(self):
        shown(("click", "2"))
        feedback.aggregate()
        with self.later(days=30):
            shown(("click", "2"), number=1)
            feedback.aggregate()
        assert evidence(9) == {"2": (1.5, 0.75)}
        assert Evidence.objects.filter(as_of=NOW + timedelta(days=30)).count() == 2

    def test_an_old_event_counts_its_faded_part(self):
        shown(("click", "2"))
        feedback.aggregate(now=NOW + timedelta(days=60))
        assert evidence(9) == {"2": (0.25, 0.125)}
        assert Feedback.objects.get(kind="click").gain == 1

    def test_the_time_of_counting_does_not_matter(self, settings):
        settings.VISUAL_SEARCH = {"HALF_LIFE_DAYS": 3.5}
        for day in range(10):
            with self.later(days=day):
                shown(("click", "2"), number=day)
                feedback.aggregate()
        bit_by_bit = evidence(9)
        Evidence.objects.all().delete()
        Feedback.objects.update(counted=False)
        feedback.aggregate(now=NOW + timedelta(days=9))
        assert evidence(9) == bit_by_bit
        total = sum(0.5 ** (day / 3.5) for day in range(10))
        assert bit_by_bit == {"2": (round(total, 4), round(total / 2, 4))}

    def test_clocks_that_differ(self):
        shown(("click", "2"))
        feedback.aggregate(now=NOW + timedelta(days=30))
        shown(("click", "2"), number=1)
        feedback.aggregate(now=NOW)
        assert evidence(9) == {"2": (1, 0.5)}
        assert set(Evidence.objects.values_list("as_of", flat=True)) == {NOW + timedelta(days=30)}

    def test_events_of_the_future_count_in_full(self):
        hit = Product.objects.create()
        feedback.record("purchase", hit, query=Product.objects.create(), at=NOW + timedelta(days=300))
        feedback.aggregate()
        assert evidence() == {str(hit.pk): (5, 1)}

    def test_very_old_events(self, settings):
        """Numbers too small for PostgreSQL."""
        settings.VISUAL_SEARCH = {"HALF_LIFE_DAYS": 0.01}
        for number in range(4):
            with self.later(days=400 * number):
                shown(("click", "2"), number=number)
                feedback.aggregate(now=NOW + timedelta(days=400 * number + 200 * (number == 3)))
        assert evidence(9) == {"2": (0, 0)}


class TestBounds:
    def test_one_product(self):
        for query in range(100, 130):
            for kind in ("click", "favourite", "cart"):
                shown((kind, "1"), query=query)
        feedback.aggregate()
        assert evidence()["1"][0] == 3
        assert sum(row.gain for row in Evidence.objects.exclude(query_id="")) == 3

    def test_one_product_in_many_batches(self):
        for query in range(100, 110):
            for kind in ("click", "favourite", "cart"):
                shown((kind, "1"), query=query)
                feedback.aggregate(batch=2)
        assert evidence()["1"][0] == 3

    def test_skips_of_one_product(self):
        for query in range(100, 130):
            shown(("skip", "1"), query=query)
        feedback.aggregate()
        assert evidence()["1"][0] == -1

    def test_gains_and_losses(self):
        for query in range(100, 160):
            shown(("click" if query % 2 else "skip", "1"), query=query)
        feedback.aggregate()
        assert abs(evidence()["1"][0]) <= 3
        assert sum(abs(row.gain) for row in Evidence.objects.exclude(query_id="")) <= 21

    def test_many_products(self):
        for query in range(100, 140):
            shown(*[("click", str(n)) for n in PRODUCTS], query=query)
        feedback.aggregate()
        assert sum(gain for gain, _ in evidence().values()) == 20
        assert sum(abs(row.gain) for row in Evidence.objects.exclude(query_id="")) == 20

    def test_rates_stay_as_they_are(self):
        """Events beyond the bounds add neither gain nor looks."""
        for query in range(100, 140):
            shown(*[("impression", str(n)) for n in PRODUCTS], query=query)
            shown(*[("click", str(n)) for n in PRODUCTS[:10]], query=query)
        feedback.aggregate()
        # Twenty clicks on what two searches showed.
        assert evidence()["1"] == (2, 2)
        assert evidence()["20"] == (0, 0.1)

    def test_the_next_period(self):
        for day in range(3):
            with moved_to(NOW + timedelta(days=day)):
                for query in range(100, 110):
                    shown(("cart", "1"), query=query)
        feedback.aggregate(now=NOW)
        assert evidence()["1"][0] == 9

    def test_events_of_the_shop_are_not_bounded(self):
        hit, query = Product.objects.create(), Product.objects.create()
        session = session_of_user(7)
        for number in range(10):
            feedback.record("purchase", hit, session=session, query=query, reference=f"order {number}")
        feedback.aggregate()
        assert evidence() == {str(hit.pk): (50, 1)}

    def test_user_agents_of_one_machine(self):
        for number in range(50):
            request = visitor(agent=f"Bot {number}")
            feedback.report(request, token(PRODUCTS, 9), [("cart", "1")])
            feedback.report(request, token(PRODUCTS, 9), [("click", str(2 + number % 19))])
        feedback.aggregate()
        assert evidence()["1"] == (3, 1)
        counting = Feedback.objects.filter(gain__gt=0).values("session").distinct().count()
        assert counting == 19, "each of the 20 products once, the first visitor for two of them"

    def test_addresses_of_one_customer(self):
        for number in range(50):
            feedback.report(visitor(f"2001:db8:7:{number:x}::1"), token(PRODUCTS, 9), [("cart", "1")])
        feedback.aggregate()
        assert evidence() == {"1": (3, 1)}

    def test_other_networks_are_not_affected(self):
        for number in range(50):
            feedback.report(visitor(agent=f"Bot {number}"), token(PRODUCTS, 9), [("cart", "1")])
            shown(("click", "1"), number=number)
        feedback.aggregate()
        assert evidence() == {"1": (3 + 50, 51)}


class TestCallers:
    def test_the_task(self):
        shown(("click", "1"))
        aggregate()
        assert evidence() == {"1": (1, 1)}

    def test_the_sweep(self):
        shown(("click", "1"))
        sweep()
        assert evidence() == {"1": (1, 1)}

    @pytest.mark.django_db(transaction=True)
    def test_a_sweep_whose_counting_fails(self, caplog):
        shown(("click", "1"))
        table = "ALTER TABLE django_visual_search_evidence"
        with connection.cursor() as cursor:
            cursor.execute(f"{table} ADD CONSTRAINT none CHECK (false) NOT VALID")
        try:
            sweep()
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"{table} DROP CONSTRAINT none")
        assert "feedback could not be counted" in caplog.text
        assert Feedback.objects.filter(counted=False).count() == 2
        sweep()
        assert evidence() == {"1": (1, 1)}

    def test_the_command(self, capsys):
        shown(("click", "1"))
        call_command("aggregate_feedback")
        assert capsys.readouterr().out == "2 events counted\n"
        assert evidence() == {"1": (1, 1)}

    def test_without_new_events_one_query(self, django_assert_num_queries):
        with django_assert_num_queries(3):  # savepoint, what is new, release
            assert feedback.aggregate() == 0
