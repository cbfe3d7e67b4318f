"""Events that the shop records: their owner, the search behind them, and no harm to a checkout."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone

from django_visual_search import feedback
from django_visual_search.feedback.sessions import session_of_user
from django_visual_search.models import Feedback
from django_visual_search.search import SearchResults

from ..testshop.models import Category, Item, Product, Spare
from ..visits import moved_to, ranking, token, visitor

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)


@pytest.fixture
def product():
    return Product.objects.create()


@pytest.fixture
def query():
    return Product.objects.create()


@pytest.fixture
def user():
    return get_user_model().objects.create_user("ada")


def only(**filters):
    return Feedback.objects.get(**filters)


@pytest.mark.parametrize("kind", Feedback.Kind.values)
def test_any_kind(product, kind):
    with moved_to(NOW):
        assert feedback.record(kind, product, request=visitor()) is True
    row = only()
    assert (row.kind, row.product, row.created_at) == (kind, product, NOW)
    assert row.session == feedback.session_of(visitor(), NOW)
    assert (row.query_kind, row.rank, row.similarity, row.search, row.network) == ("", None, None, None, "")


class TestOwner:
    def test_a_user(self, product, user):
        feedback.record("purchase", product, user=user)
        assert only().session == session_of_user(user)

    def test_a_users_primary_key(self, product, user):
        feedback.record("purchase", product, user=user.pk)
        assert only().session == session_of_user(user)

    def test_the_user_of_the_request(self, product, user):
        feedback.record("purchase", product, request=visitor(user=user))
        assert only().session == session_of_user(user)

    def test_a_user_takes_precedence_over_the_request(self, product, user):
        feedback.record("purchase", product, user=user, request=visitor())
        assert only().session == session_of_user(user)

    def test_an_anonymous_user(self, product):
        feedback.record("purchase", product, user=AnonymousUser(), request=visitor())
        assert only().session == feedback.session_of(visitor())

    def test_a_session(self, product, user):
        session = feedback.session_of(visitor())
        feedback.record("purchase", product, session=session, user=user)
        assert only().session == session

    def test_at_another_time(self, product, user):
        feedback.record("purchase", product, user=user, at=NOW)
        assert (only().session, only().created_at) == (session_of_user(user, NOW), NOW)

    def test_without_an_owner(self, product):
        assert feedback.record("purchase", product)
        assert feedback.record("purchase", product)
        assert set(Feedback.objects.values_list("session", flat=True)) == {""}
        assert Feedback.objects.count() == 2


class TestMistakes:
    def test_an_unknown_kind(self, product):
        with pytest.raises(ValueError, match="There is no kind of event 'bought'; the kinds are impression, click"):
            feedback.record("bought", product)

    @pytest.mark.parametrize("what", [None, 1, "1", Product, Category(pk=1), Item(pk=1)])
    def test_not_a_searchable_product(self, what):
        with pytest.raises(ValueError, match="no visual search finds it"):
            feedback.record("purchase", what)

    def test_a_product_that_is_not_saved(self):
        with pytest.raises(ValueError, match="no primary key"):
            feedback.record("purchase", Product())

    @pytest.mark.parametrize("session", ["", "ada", "x" * 64, "A" * 64, "1" * 63])
    def test_not_a_session(self, product, session):
        with pytest.raises(ValueError, match="session_of"):
            feedback.record("purchase", product, session=session)

    def test_results_that_did_not_show_it(self, product):
        with pytest.raises(feedback.NotOffered):
            feedback.record("purchase", product, results=ranking([product.pk + 1]))

    def test_a_query_of_another_model(self, product):
        with pytest.raises(ValueError, match="is not among the similar items"):
            feedback.record("purchase", product, query=Spare(sku="x"))


class TestSearchBehind:
    def test_results(self, product, query):
        shown = ranking([5000, product], query)
        assert feedback.record("click", product, request=visitor(), results=SearchResults([], shown))
        row, looked_at = Feedback.objects.order_by("-id")
        assert (row.kind, looked_at.kind) == ("click", "impression")
        for event in (row, looked_at):
            assert (event.query_kind, event.query_id, event.rank) == ("product", str(query.pk), 2)
            assert event.search.hex == shown.search
        # Recorded and reported, it is one event.
        assert feedback.report(visitor(), shown.sign(), [("click", str(product.pk))]) == feedback.Report(0, 1)

    def test_a_query(self, product, query):
        feedback.record("skip", product, request=visitor(), query=query)
        for event in Feedback.objects.all():
            assert (event.query_kind, event.query_id, event.rank) == ("product", str(query.pk), None)

    @pytest.mark.parametrize("kind", ["favourite", "cart", "purchase"])
    def test_the_latest_click(self, product, query, kind):
        for hours, query_id in ((30, 7000), (20, query.pk), (10, 7000)):
            with moved_to(NOW - timedelta(hours=hours)):
                shown = token([6000, product, 6001], query_id)
                if hours != 10:
                    feedback.report(visitor(), shown, [("click", str(product.pk))])
                feedback.report(visitor(), shown, [("click", "6000"), ("impression", str(product.pk))])
                feedback.report(visitor(agent="Chrome"), token([product]), [("click", str(product.pk))])
        with moved_to(NOW):
            assert feedback.record(kind, product, request=visitor())
        row = only(kind=kind)
        assert (row.query_kind, row.query_id, row.rank, row.similarity) == ("product", str(query.pk), 2, 0.89)
        assert row.search == Feedback.objects.get(kind="click", query_id=str(query.pk), object_id=product.pk).search
        assert row.label == "testshop.Product.embedding"
        assert Feedback.objects.filter(kind="impression", created_at=NOW).count() == 0

    def test_a_click_by_photo(self, product):
        feedback.report(visitor(), token([product]), [("click", str(product.pk))])
        feedback.record("purchase", product, request=visitor())
        assert (only(kind="purchase").query_kind, only(kind="purchase").query_id) == ("photo", "")

    def test_a_user_who_clicked_before_logging_in(self, product, query, user):
        feedback.report(visitor(), token([product], query), [("click", str(product.pk))])
        feedback.record("purchase", product, request=visitor(user=user))
        assert only(kind="purchase").query_id == str(query.pk)

    def test_a_user_who_clicked_elsewhere(self, product, query, user):
        phone, desk = visitor("192.0.2.1", "Phone", user=user), visitor("198.51.100.2", "Desk", user=user)
        feedback.report(phone, token([product], query), [("click", str(product.pk))])
        feedback.record("purchase", product, request=desk)
        assert only(kind="purchase").query_id == str(query.pk)

    def test_a_webhook_that_names_the_user(self, product, query, user):
        feedback.report(visitor(user=user), token([product], query), [("click", str(product.pk))])
        feedback.record("purchase", product, user=user.pk)
        assert only(kind="purchase").query_id == str(query.pk)

    @pytest.mark.parametrize(("days", "found"), [(6.9, True), (7.1, False)])
    def test_a_click_of_some_days_ago(self, product, query, days, found, settings):
        with moved_to(NOW - timedelta(days=days)):
            feedback.report(visitor(), token([product], query), [("click", str(product.pk))])
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
        with moved_to(NOW):
            feedback.record("purchase", product, request=visitor())
        assert only(kind="purchase").query_id == (str(query.pk) if found else "")

    def test_a_later_click_does_not_count(self, product, query):
        with moved_to(NOW):
            feedback.report(visitor(), token([product], query), [("click", str(product.pk))])
        feedback.record("purchase", product, request=visitor(), at=NOW - timedelta(hours=1))
        assert only(kind="purchase").query_id == ""

    def test_without_a_click(self, product, query):
        feedback.report(visitor(), token([product], query), [("impression", str(product.pk))])
        feedback.record("purchase", product, request=visitor())
        assert only(kind="purchase").query_kind == ""

    def test_a_click_without_a_search_hides_no_other(self, product, query):
        feedback.report(visitor(), token([product], query), [("click", str(product.pk))])
        feedback.record("click", product, request=visitor())
        feedback.record("purchase", product, request=visitor())
        assert only(kind="purchase").query_id == str(query.pk)

    def test_anonymous_purchases_and_clicks_are_not_matched(self, product, query):
        feedback.record("click", product, query=query)
        feedback.record("purchase", product)
        assert only(kind="purchase").query_kind == ""

    @pytest.mark.parametrize("reference", [None, "order 7"])
    def test_a_return_has_the_purchases_search(self, product, query, user, reference):
        with moved_to(NOW):
            feedback.report(visitor(user=user), token([product], query), [("click", str(product.pk))])
            feedback.record("purchase", product, user=user, reference=reference)
        with moved_to(NOW + timedelta(days=50)):
            feedback.record("return", product, user=user, reference=reference)
        assert only(kind="return").query_id == str(query.pk)

    def test_a_return_with_a_reference_needs_no_user(self, product, query, user, settings):
        feedback.record("click", product, user=user, query=query)
        feedback.record("purchase", product, user=user, reference="order 7")
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
        feedback.record("return", product, reference="order 7")
        feedback.record("return", product, reference="order 8")
        assert list(Feedback.objects.filter(kind="return").order_by("id").values_list("query_id", flat=True)) == [
            str(query.pk),
            "",
        ]


class TestReferences:
    def test_counts_once_whoever_sends_it(self, product, user):
        assert feedback.record("purchase", product, user=user, reference="order 7 line 1") is True
        assert feedback.record("purchase", product, reference="order 7 line 1") is False
        assert feedback.record("purchase", product, user=user, reference="order 7 line 1", at=NOW) is False
        assert feedback.record("purchase", product, user=user, reference="order 7 line 2") is True
        assert feedback.record("return", product, user=user, reference="order 7 line 1") is True
        assert feedback.record("purchase", Product.objects.create(), reference="order 7 line 1") is True

    def test_keys_and_references_are_not_mixed_up(self):
        assert feedback.record("purchase", Spare(sku="1"), reference="11") is True
        assert feedback.record("purchase", Spare(sku="11"), reference="1") is True

    def test_after_a_new_secret_key(self, product, settings):
        assert feedback.record("purchase", product, reference="order 7") is True
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
        assert feedback.record("purchase", product, reference="order 7") is False

    def test_without_one_a_session_counts_once_a_period(self, product, user):
        assert feedback.record("purchase", product, user=user) is True
        assert feedback.record("purchase", product, user=user) is False
        assert feedback.record("purchase", product, user=user, at=timezone.now() - timedelta(days=1)) is True

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("whose", [{"reference": "order 7"}, {"session": "a" * 64}])
    def test_of_two_webhooks_at_once_one_is_new(self, product, whose):
        """The second call inserts while the first has inserted and not committed."""
        first_has_inserted, second_inserts = threading.Event(), threading.Event()

        def announced(execute, sql, params, many, context):
            if sql.startswith("INSERT"):
                second_inserts.set()
            return execute(sql, params, many, context)

        def first():
            with transaction.atomic():
                is_new = feedback.record("purchase", product, **whose)
                first_has_inserted.set()
                assert second_inserts.wait(10)
                time.sleep(0.1)  # until its INSERT waits for ours
                return is_new

        def second():
            assert first_has_inserted.wait(10)
            with connection.execute_wrapper(announced):
                return feedback.record("purchase", product, **whose)

        def closing(call):
            try:
                return call()
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(closing, [first, second])) == [True, False]
        assert Feedback.objects.count() == 1


class TestCheckouts:
    """Feedback never harms the shop's own transaction."""

    @pytest.fixture
    def failing(self):
        """Let the table refuse new rows."""
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_visual_search_feedback ADD CONSTRAINT none CHECK (false) NOT VALID")
        yield
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE django_visual_search_feedback DROP CONSTRAINT none")

    def test_is_part_of_the_shops_transaction(self, product):
        def order():
            feedback.record("purchase", product, reference="order 7")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            transaction.atomic(order)()
        assert not Feedback.objects.exists()
        assert feedback.record("purchase", product, reference="order 7") is True

    def test_a_database_error_is_logged_and_the_order_is_placed(self, product, failing, caplog):
        with transaction.atomic():
            order = Category.objects.create(name="order")
            assert feedback.record("purchase", product, request=visitor()) is False
            Category.objects.create(name="line")
        assert Category.objects.count() == 2
        assert order.pk
        assert f"a purchase of testshop.Product {product.pk} could not be recorded" in caplog.text
        assert caplog.records[0].exc_info

    @pytest.mark.django_db(transaction=True)
    def test_the_same_without_a_transaction(self, product, failing):
        assert feedback.record("purchase", product, request=visitor()) is False
        assert not connection.needs_rollback

    def test_a_database_error_in_search_behind(self, product, caplog):
        def failing(execute, sql, params, many, context):
            wrong = sql.startswith("SELECT") and "visual_search_feedback" in sql
            return execute("SELECT 1 / 0" if wrong else sql, None if wrong else params, many, context)

        with transaction.atomic():
            Category.objects.create(name="order")
            with connection.execute_wrapper(failing):
                assert feedback.record("purchase", product, request=visitor()) is False
            Category.objects.create(name="line")
        assert Category.objects.count() == 2
        assert "division by zero" in caplog.text

    @pytest.mark.django_db(transaction=True)
    def test_a_connection_lost_in_the_insert_ends_the_transaction(self, product):
        def cut(execute, sql, params, many, context):
            if sql.startswith("INSERT"):
                terminate(connection)
            return execute(sql, params, many, context)

        @transaction.atomic
        def order():
            Category.objects.create(name="order")
            with connection.execute_wrapper(cut):
                feedback.record("purchase", product, request=visitor())

        with pytest.raises(DatabaseError):
            order()
        connection.close()
        assert not Category.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_a_lost_connection_ends_the_transaction(self, product):
        """Django would leave the block silently, and without the order."""

        @transaction.atomic
        def order():
            Category.objects.create(name="order")
            terminate(connection)
            feedback.record("purchase", product, request=visitor())

        with pytest.raises(DatabaseError):
            order()
        connection.close()
        assert not Category.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_a_lost_connection_without_a_transaction_is_logged(self, product, caplog):
        terminate(connection)
        assert feedback.record("purchase", product, request=visitor()) is False
        connection.close()
        assert isinstance(caplog.records[-1].exc_info[1], OperationalError)
        assert feedback.record("purchase", product, request=visitor()) is True


def terminate(connection):
    """Let the server end our session, as when it restarts."""
    pid = connection.connection.info.backend_pid

    def end():
        from django.db import connection as other

        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        other.close()

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
